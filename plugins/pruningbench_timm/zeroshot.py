"""Zero-shot classifiers from open_clip's image and text encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from pruningbench.contract import (
    Facet,
    Grid,
    MissingDataError,
    Preprocessing,
    PruningBenchError,
    UsageError,
    did_you_mean,
    expanded,
    isolated_randomness,
    tensors_digest,
)
from pruningbench_timm.checkpoints import read_checkpoint
from pruningbench_timm.hub import Repository
from pruningbench_timm.layered import LayeredVisionModel
from pruningbench_timm.tokens import PROJECTIONS, watched

TEXTS_AT_ONCE = 256
ARRAYS = (".npz", ".npy")
"""Files that open_clip reads with NumPy, which runs no code."""
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ZeroShotNetwork(nn.Module):
    """An image encoder and a linear head of unit text embeddings, scaled by CLIP's temperature.

    Args:
        visual: maps (B, C, H, W) to (B, D) embeddings.
        directions: (classes, D) unit embeddings of the classes.
        scale: inverse temperature of the cosine between image and text, > 0.
    """

    def __init__(self, visual: nn.Module, directions: Tensor, scale: float) -> None:
        super().__init__()
        self.visual = visual
        self.head = nn.Linear(directions.shape[1], directions.shape[0], bias=False)
        with torch.no_grad():
            self.head.weight.copy_(directions * scale)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes): scaled cosines between each image and each class."""
        logits: Tensor = self.head(normalize(self.visual(images), dim=-1))
        return logits


class ZeroShotModel(LayeredVisionModel):
    """Views of a zero-shot network; the embedding is the unit vector compared with the text embeddings."""

    def patch_features(self, images: Tensor, facet: Facet = "keys") -> Tensor:
        """(B, C, H, W) normalised images -> (B, D, h, w): last-block keys of CLIP's ViT, last stage of its ResNet."""
        block = _last_block(self.network)
        if block is None or facet == "tokens":
            return super().patch_features(images, facet)
        with watched(block.ln_1, lambda _inputs, output: output) as caught:
            self.network(images)
        place, width = PROJECTIONS[facet], caught[0].shape[-1]
        part = slice(place * width, (place + 1) * width)
        attention = block.attn
        bias = None if attention.in_proj_bias is None else attention.in_proj_bias[part]
        return self._grid(linear(caught[0], attention.in_proj_weight[part], bias), images)

    def activation_module(self) -> tuple[nn.Module, Grid]:
        """Return the norm before the last attention, after which CLIP's ViT uses only its class token."""
        block = _last_block(self.network)
        return super().activation_module() if block is None else (block.ln_1, self._grid)


def _last_block(network: nn.Module) -> Any:
    """Return the last block of one of open_clip's own transformers, or None."""
    blocks: Any = getattr(getattr(getattr(network, "visual", None), "transformer", None), "resblocks", None)
    if blocks is None or not isinstance(getattr(blocks[-1], "attn", None), nn.MultiheadAttention):
        return None
    return blocks[-1]


def load_zero_shot(
    name: str,
    weights: str | None,
    classes: Sequence[str],
    titles: Sequence[str],
    templates: Sequence[str],
    seed: int,
    device: torch.device,
) -> ZeroShotModel:
    """Return open_clip's image encoder with a head of text embeddings.

    Args:
        name: architecture.
        weights: tag or local file, None for random weights.
        classes: label space.
        titles: names of the classes in the sentences, in the same order.
        templates: the sentences, with ``{}`` in place of the title.
        seed: seed of random weights.
        device: device of the network.
    """
    open_clip = _open_clip()
    encoder = _encoder(name, weights, seed).eval()
    tokenizer: Any = open_clip.get_tokenizer(name)
    directions = text_directions(encoder.encode_text, tokenizer, titles, templates)
    network = ZeroShotNetwork(encoder.visual, directions, float(encoder.logit_scale.detach().exp())).eval()
    settings: dict[str, Any] = encoder.visual.preprocess_cfg
    size = settings["size"]
    side = size if isinstance(size, int) else int(size[0])
    if settings.get("resize_mode", "shortest") not in ("shortest", "squash"):
        raise UsageError(f"{name}: its images are resized by {settings['resize_mode']!r}, which is not supported")
    preprocessing = Preprocessing(
        tuple(settings["mean"]),
        tuple(settings["std"]),
        size=side,
        interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
        squash=settings.get("resize_mode") == "squash",
    )
    block = _last_block(network)
    features = "visual.transformer" if block is not None else "visual.layer4" if _has(network, "visual.layer4") else ""
    model = ZeroShotModel(
        network.to(device),
        preprocessing,
        features=features,
        last="head",
        prefix=int(block is not None),
        classes=classes,
        fingerprint=tensors_digest(network.state_dict())[:16],
    )
    model.family = "clip" if block is not None and weights is not None else ""
    return model


def text_directions(
    encode: Callable[[Tensor], Tensor],
    tokenize: Callable[[list[str]], Tensor],
    titles: Sequence[str],
    templates: Sequence[str],
) -> Tensor:
    """Return (classes, D) unit vectors: for each class the normalised mean of its unit sentence embeddings.

    Args:
        encode: (B, length) int64 tokens -> (B, D) embeddings.
        tokenize: sentences -> (B, length) tokens.
        titles: names of the classes in words.
        templates: sentences with ``{}`` in place of the name.
    """
    sentences = [template.format(title) for title in titles for template in templates]
    with torch.no_grad():
        parts = [
            encode(tokenize(sentences[start : start + TEXTS_AT_ONCE]))
            for start in range(0, len(sentences), TEXTS_AT_ONCE)
        ]
        unit = normalize(torch.cat(parts).float(), dim=-1)
        return normalize(unit.reshape(len(titles), len(templates), -1).mean(1), dim=-1)


def missing_weights(name: str, weights: str) -> str | None:
    """Return how to get the weights of a tag, or None if they are on this machine or not on the hub."""
    if expanded(weights).is_file():
        return None
    repository = _repository(name, weights)
    if repository is None or repository.cached(*HUB_FILES) is not None:
        return None
    command = repository.command(HUB_FILES[0])
    return f"weights {repository} are not on this machine; they are fetched on first use, or with `{command}`"


def _encoder(name: str, weights: str | None, seed: int) -> Any:
    open_clip = _open_clip()
    local = expanded(weights) if weights is not None and expanded(weights).is_file() else None
    if weights is not None and local is None:
        _repository(name, weights)  # refuses names that open_clip does not know
    elif name not in open_clip.list_models():
        raise _unknown(name)
    if local is not None and local.suffix not in ARRAYS:
        read_checkpoint(local)  # if this fails, open_clip would load the file in a way that may run code
    path = weights if local is None else str(local)
    try:
        with isolated_randomness(seed, "initial weights"):
            return open_clip.create_model(name, pretrained=path)
    except (OSError, ConnectionError) as error:
        raise MissingDataError(
            f"weights {weights!r} of {name} cannot be fetched ({' '.join(str(error).split())[:200]}); with a network, "
            "run again, or give a local file"
        ) from error
    except Exception as error:  # anything that a weight file may cause
        reason = " ".join(str(error).split())[:200]
        raise PruningBenchError(f"{weights}: its weights do not fit {name}: {reason}") from error


def _repository(name: str, tag: str) -> Repository | None:
    """Return the repository of a tag, or None if it is on another server.

    Raises:
        UsageError: for an unknown architecture or tag, with the nearest names.
    """
    open_clip = _open_clip()
    if name not in open_clip.list_models():
        raise _unknown(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag.lower().replace("-", "_") not in tags:
        hint = did_you_mean(tag, tags) or f"; it has {', '.join(tags) or 'none'}"
        raise UsageError(f"clip: {name} has no weights {tag!r}, and there is no such file{hint}")
    place = open_clip.pretrained.get_pretrained_cfg(name, tag).get("hf_hub") or ""
    owner_and_name = "/".join(place.split("/")[:2])
    return Repository(owner_and_name) if owner_and_name.count("/") == 1 else None


def _unknown(name: str) -> UsageError:
    open_clip = _open_clip()
    return UsageError(f"clip: open_clip has no architecture {name!r}{did_you_mean(name, open_clip.list_models())}")


def _open_clip() -> Any:
    return import_module("open_clip")  # an extra: type checkers may not have it


def _has(network: nn.Module, module: str) -> bool:
    return module in dict(network.named_modules())
