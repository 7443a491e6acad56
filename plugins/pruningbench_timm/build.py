"""timm networks by name: architecture, settings, weights, preprocessing and label space."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.data.imagenet_info import infer_imagenet_subset
from timm.models import get_pretrained_cfg, is_model, list_models, model_entrypoint, split_model_name_tag
from torch import Tensor, nn

from pruningbench.contract import (
    MissingDataError,
    Preprocessing,
    PruningBenchError,
    UsageError,
    default_cache_folder,
    did_you_mean,
    imagenet_classes,
)
from pruningbench.images.fetch import Download, fetch
from pruningbench_timm.checkpoints import load_weights, read_checkpoint
from pruningbench_timm.hub import WEIGHTS, Repository
from pruningbench_timm.hubconfig import LARGEST_NETWORK, read_config
from pruningbench_timm.tokens import is_transformer, patch_size

HUB = "hf-hub:"
ANY_SIZE = ("vision_transformer", "deit", "eva")
"""timm modules whose transformers accept several image sizes, by interpolating position embeddings."""
FAULTS = (TypeError, ValueError, AssertionError, RuntimeError, KeyError, AttributeError)
"""Exceptions that timm's constructors raise for invalid arguments."""


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        name: the name that the user gave.
        architecture: timm's name without a tag.
        settings: timm's pretrained configuration: mean, std, size, crop, classes.
        args: architecture arguments that the repository declares.
        repository: repository of its weights, or None.
        url: address of the weights if they are in no repository, or empty.
    """

    name: str
    architecture: str
    settings: Mapping[str, Any]
    args: Mapping[str, Any] = field(default_factory=dict)
    repository: Repository | None = None
    url: str = ""


def repository_of(name: str, revision: str | None) -> Repository:
    """Return the repository named by ``hf-hub:owner/name[@revision]``.

    Raises:
        UsageError: for two different revisions, or an identifier without an owner.
    """
    identifier, _, inside = name.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", identifier):
        raise UsageError(f"{name}: write a model on the hub as {HUB}OWNER/NAME")
    if inside and revision and inside != revision:
        raise UsageError(f"{name}: names revision {inside!r}, but `revision` is {revision!r}; give one of them")
    return Repository(identifier, inside or revision)


def known_source(name: str, revision: str | None = None) -> Source:
    """Return the source of a model that timm itself knows, without network access.

    Raises:
        UsageError: for a name that timm does not know (with the nearest names), or a revision of weights
            that are not on a hub.
    """
    architecture, tag = split_model_name_tag(name)
    try:
        settings = get_pretrained_cfg(name) if is_model(architecture) else None
    except RuntimeError:  # an unknown tag
        settings = None
    if settings is None:
        if is_model(architecture) and not tag:  # an architecture without published weights
            return Source(name, architecture, {"num_classes": 1000})
        near = did_you_mean(name, list_models(pretrained=True) if tag else list_models())
        raise UsageError(f"timm has no model {name!r}{near or '; see timm.list_models()'}")
    repository = Repository(settings.hf_hub_id, revision) if settings.hf_hub_id else None
    url = settings.url if isinstance(settings.url, str) and repository is None else ""
    if revision and repository is None:
        raise UsageError(f"{name}: its weights are not on a hub, so there is no revision {revision!r}")
    return Source(name, architecture, dict(vars(settings)), {}, repository, url)


def hub_source(name: str, revision: str | None = None) -> Source:
    """Return the source of a model on the hub; its configuration is fetched unless it is cached.

    Raises:
        MissingDataError: if the repository or its configuration is unavailable.
        PruningBenchError: if the configuration is not for timm, or holds something that is not allowed.
    """
    repository = repository_of(name, revision)
    architecture, settings, arguments = read_config(repository.fetch("config.json"))
    if not is_model(architecture):
        raise PruningBenchError(
            f"{repository}: this timm ({timm.__version__}) has no architecture {architecture!r}"
            f"{did_you_mean(architecture, list_models())}; a newer version may"
        )
    return Source(name, architecture, settings, arguments, repository)


def find_source(name: str, revision: str | None = None) -> Source:
    """Return the source of a name: a model on the hub, or one of timm's own."""
    return hub_source(name, revision) if name.startswith(HUB) else known_source(name, revision)


def weights_of(source: Source) -> Path:
    """Return the file of a source's published weights, fetching it if necessary.

    Raises:
        MissingDataError: if there are none, or they are unavailable.
    """
    if source.repository is not None:
        return source.repository.fetch(*WEIGHTS)
    if not source.url:
        tagged = list_models(f"{source.architecture}*", pretrained=True)
        raise MissingDataError(
            f"{source.name}: no weights of it are published; use `pretrained: false`, a `checkpoint`, or one of "
            f"{', '.join(tagged[:4]) or 'timm.list_models(pretrained=True)'}"
        )
    return fetched(source.url)


def fetched(url: str, md5: str = "") -> Path:
    """Return a weight file from a URL, downloaded once and checked.

    Args:
        url: its address; timm's file names contain the first digits of the SHA-256.
        md5: the MD5 that the publisher states, or its first digits.
    """
    path = place_of(url)
    digits = re.search(r"-([0-9a-f]{8,})\.[a-z]+$", path.name)
    fetch([Download(url, path.name, sha256=digits[1] if digits and not md5 else "", md5=md5)], path.parent)
    return path


def place_of(url: str) -> Path:
    """Return where `fetched` stores the file of a URL."""
    return default_cache_folder() / "downloads" / url.rpartition("/")[2]


def build(
    source: Source,
    *,
    args: Mapping[str, Any],
    size: int | None = None,
    output_stride: int = 32,
    state: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Return the network of a source, with random weights or those of `state`.

    Args:
        source: the architecture.
        args: further arguments of the architecture.
        size: image side in pixels, if its layers depend on it; None for its own, 0 for any.
        output_stride: stride of the last stage: 32, or less with dilation.
        state: published weights, adapted to the network as in timm (position embeddings interpolated, input
            channels merged).

    Raises:
        UsageError: for arguments that the architecture refuses.
        PruningBenchError: if the weights do not fit.
    """
    entry = model_entrypoint(source.architecture)
    given: dict[str, Any] = {**source.args, **args}
    if output_stride != 32:
        given["output_stride"] = output_stride
    if size and source.settings.get("fixed_input_size"):
        given.setdefault("img_size", size)
    if entry.__module__.removeprefix("timm.models.") in ANY_SIZE:
        given.setdefault("dynamic_img_size", True)
    settings = {**source.settings, "source": "", "custom_load": False, "file": None}
    settings.pop("architecture", None)
    if source.args:
        _check_size(source, settings, given)
    if state is not None:
        settings["state_dict"] = dict(state)
    try:
        network: nn.Module = timm.create_model(
            source.architecture, pretrained=state is not None, pretrained_cfg=settings, **given
        )
    except FAULTS as error:
        reason = " ".join(str(error).split())
        if state is not None:
            raise PruningBenchError(f"{source.name}: its weights do not fit {given}: {reason[:300]}") from error
        raise UsageError(f"timm cannot build {source.architecture} with {given}: {reason[:300]}") from error
    for place in ("pretrained_cfg", "default_cfg"):
        getattr(network, place, {}).pop("state_dict", None)  # otherwise each clone would copy the weights
    if size and is_transformer(network) and any(size % side for side in patch_size(network)):
        raise UsageError(f"{source.name}: size {size} is not a multiple of its patch size {patch_size(network)}")
    return network


def _check_size(source: Source, settings: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse an absurdly large network from an untrusted configuration before it takes memory."""
    try:
        with torch.device("meta"):
            outline = timm.create_model(source.architecture, pretrained=False, pretrained_cfg=dict(settings), **given)
    except FAULTS:
        return  # building the network reports what is wrong with the arguments
    size = sum(parameter.numel() for parameter in outline.parameters())
    if size > LARGEST_NETWORK:
        raise PruningBenchError(
            f"{source.name}: its configuration describes {size:,} parameters; at most {LARGEST_NETWORK:,} are built"
        )


def load_checkpoint(
    source: Source, path: Path, *, prefix: str, ignore: Sequence[str], **options: Any
) -> nn.Module:  # fmt: skip
    """Return the network of a source with the weights of a local file.

    If the names fit neither directly nor under a prefix, timm gets the weights, because it knows the names that the
    original repositories of many architectures use.

    Raises:
        PruningBenchError: as `read_checkpoint` and `load_weights` do.
    """
    state = read_checkpoint(path)
    network = build(source, **options)
    try:
        load_weights(network, state, str(path), prefix=prefix, ignore=ignore)
    except UsageError:
        raise
    except PruningBenchError as misfit:
        outputs = {"num_classes": getattr(network, "num_classes", source.settings.get("num_classes"))}
        same_head = Source(source.name, source.architecture, {**source.settings, **outputs}, source.args)
        try:
            return build(same_head, **options, state=state)
        except PruningBenchError:
            raise misfit from None
    return network


def preprocessing_of(source: Source, network: nn.Module, size: int | None, crop: float | None) -> Preprocessing:
    """Return the preprocessing that a network was trained with, with another size or crop if given.

    Raises:
        UsageError: for a network whose images are not square, or are padded.
    """
    asked: Any = network
    settings: dict[str, Any] = resolve_data_config({}, pretrained_cfg={**source.settings})  # type: ignore[no-untyped-call]
    channels, height, width = getattr(asked, "default_cfg", {}).get("input_size", settings["input_size"])
    channels = getattr(asked, "in_chans", None) or _channels(network) or channels
    if size is None and height != width:
        raise UsageError(f"{source.name} takes images of {height} x {width} pixels; give a `size` for square ones")
    if settings["crop_mode"] == "border":
        raise UsageError(f"{source.name} pads its images (crop mode 'border'), which is not supported")
    fixed = _fixed_side(network)
    if fixed and size is not None and size != fixed:
        raise UsageError(f"{source.name} takes images of {fixed} pixels only, not {size or 'any size'}")
    mean, std = settings["mean"], settings["std"]
    if channels == 1 and len(mean) == 3:  # a grey image is the mean of three channels
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    return Preprocessing(
        tuple(map(float, mean)),
        tuple(map(float, std)),
        size=(fixed or _input_side(network, height) if size is None else size) or None,
        crop=settings["crop_pct"] if crop is None else crop,
        interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
        squash=settings["crop_mode"] == "squash",
    )


def _channels(network: nn.Module) -> int | None:
    """Return the number of input channels of the first convolution."""
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    return first.in_channels if first is not None else None


def _input_side(network: nn.Module, default: int) -> int:
    """Return the image side for which a transformer's positions are defined, or the settings' default."""
    own = getattr(getattr(network, "patch_embed", None), "img_size", None)
    return int(own[0]) if isinstance(own, (tuple, list)) else default


def _fixed_side(network: nn.Module) -> int | None:
    """Return the only image side that a network accepts, or None if it accepts several."""
    embed = getattr(network, "patch_embed", None)
    own = getattr(embed, "img_size", None)
    strict = getattr(embed, "strict_img_size", False) and not getattr(network, "dynamic_img_size", False)
    return int(own[0]) if strict and isinstance(own, (tuple, list)) else None


def classes_of(source: Source, network: nn.Module, declared: Sequence[str]) -> tuple[str, ...]:
    """Return the label space of a network's logits.

    It is the user's declaration, else the names in the repository's configuration, else the WordNet ids of the
    ImageNet set with as many classes, else the logit numbers as text. It is empty without a head.

    Raises:
        UsageError: if the number of declared classes differs from the number of logits.
    """
    count = int(getattr(network, "num_classes", 0) or 0)
    if declared:
        if len(declared) != count:
            raise UsageError(f"{source.name}: {len(declared)} classes are named, but the network has {count} logits")
        return tuple(declared)
    named = source.settings.get("label_names") or ()
    if count and len(named) == count:
        return tuple(map(str, named))
    subset: Any = infer_imagenet_subset({"num_classes": count})
    return imagenet_classes(subset) if subset else tuple(map(str, range(count)))


FAMILIES = ("dinov2", "dino", "deit", "clip")
"""Families of trained vision transformers, as they appear in timm's names; the first that fits counts."""


def family_of(source: Source, network: nn.Module) -> str:
    """Return which family of `FAMILIES` a vision transformer's weights belong to, by timm's name; "" for none."""
    name = source.name.lower()
    return next((family for family in FAMILIES if family in name), "") if is_transformer(network) else ""


def on_meta(source: Source, **options: Any) -> nn.Module:
    """Return the architecture of a source without weights, on torch's ``meta`` device."""
    with torch.device("meta"):
        return build(source, **options).eval()
