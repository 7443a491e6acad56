"""The model `timm`: any network that timm knows or can load from the hub, or a local checkpoint of one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pruningbench.contract import Context, NewWeights, VisionModel, param

if TYPE_CHECKING:
    from torch import nn

    from pruningbench_timm.build import Source

OutputStride = Literal[8, 16, 32]


@dataclass(frozen=True)
class TimmBase(NewWeights):
    """Base of the models that timm builds."""

    @abstractmethod
    def source(self) -> Source:
        """Return where the network comes from."""

    def options(self) -> dict[str, Any]:
        """Return the arguments of `pruningbench_timm.build.build`."""
        return {"args": {}}

    @abstractmethod
    def dense(self, source: Source) -> nn.Module:
        """Return the network with its weights, on the CPU."""

    def shape(self) -> tuple[int | None, float | None]:
        """Return the size and crop that the user requests, None for the network's own."""
        return None, None

    def named(self) -> tuple[str, ...]:
        """Return the classes that the user declares, if any."""
        return ()

    def load(self, context: Context) -> VisionModel:
        """Return the network with its weights on ``context.device``, in eval mode."""
        from pruningbench.contract import tensors_digest
        from pruningbench_timm.build import build, classes_of, family_of, preprocessing_of
        from pruningbench_timm.crops import CropAndFlip
        from pruningbench_timm.vision import TimmVisionModel, classifier_names

        source = self.source()
        network = self.dense(source).eval()
        size, crop = self.shape()
        model = TimmVisionModel(
            network.to(context.device),
            preprocessing_of(source, network, size, crop),
            classes=classes_of(source, network, self.named()),
            head=classifier_names(network),
            augment=CropAndFlip(),
            fresh=lambda: build(source, **self.options()),
            norm_init=self.norm_init,
            family=family_of(source, network) if not self.is_random() else "",
        )
        if self.is_random():
            model.start_norms()
        model.fingerprint = tensors_digest(network.state_dict())[:16]
        return model

    def is_random(self) -> bool:
        """Whether `dense` returns random weights."""
        return False

    def load_fetches(self) -> bool:
        """Return whether `load` may fetch weights: yes, unless the user has switched the hub off."""
        from pruningbench_timm.hub import offline

        return not offline()

    def skeleton(self) -> nn.Module | None:
        """Return the network without weights on the meta device; None for a hub model not yet fetched."""
        from pruningbench_timm.build import on_meta

        return on_meta(self.source(), **self.options())


@dataclass(frozen=True)
class TimmModel(TimmBase):
    """Any timm network, by its timm or hub name, with the preprocessing of its own configuration.

    Weights are the published ones, those of a local file, or random. Published weights come from the
    Hugging Face hub on first use and from its cache afterwards, even without network access.
    Class names of ImageNet networks are WordNet ids (``n02123045``); `class_title` converts them to words.
    The networks are from R. Wightman, PyTorch Image Models, 2019.
    """

    name: str = param(
        doc="a name of timm.list_models(), with or without a tag, or hf-hub:OWNER/NAME[@REVISION]", shown=True
    )
    pretrained: bool = param(True, doc="load the published weights; false for random ones")
    revision: str | None = param(None, doc="commit, tag or branch of the weights on the hub; a commit never changes")
    checkpoint: str | None = param(None, doc="local weight file: safetensors, or a PyTorch file without code")
    prefix: str = param("", doc="prefix of the checkpoint's names, if several fit (module.teacher.)")
    ignore: tuple[str, ...] = param((), doc="shell patterns of checkpoint names to leave out, e.g. fc.*")
    classes: tuple[str, ...] = param((), doc="class names in logit order; empty for the network's own")
    size: int | None = param(None, doc="image side in pixels, 0 to leave images unresized; null for the network's own")
    crop: float | None = param(None, doc="share of the resized image that the crop keeps, in (0, 1]; null for its own")
    output_stride: OutputStride = param(32, doc="pixels between cells of a CNN's last stage; 8 and 16 use dilation")
    args: dict[str, Any] = param({}, doc="further arguments of the architecture, passed to timm.create_model")
    seed: int = param(0, doc="seed of random weights, >= 0")

    def problem(self) -> str | None:
        """Check ranges, and that the fields do not contradict each other."""
        if not self.name.strip():
            return "name is empty; see timm.list_models()"
        if self.size is not None and self.size < 0:
            return f"size is {self.size}, but must be at least 0"
        if self.crop is not None and not 0 < self.crop <= 1:
            return f"crop is {self.crop}, but must lie in (0, 1]"
        if self.seed < 0:
            return f"seed is {self.seed}, but must be at least 0"
        if (self.prefix or self.ignore) and self.checkpoint is None:
            return "prefix and ignore apply to a local checkpoint, but none is given"
        if len(set(self.classes)) < len(self.classes):
            return "classes must not repeat"
        return None

    def source(self) -> Source:
        """Return where the network comes from; the configuration of a hub model is fetched if necessary."""
        from pruningbench_timm.build import find_source

        return find_source(self.name, self.revision)

    def options(self) -> dict[str, Any]:
        """Return the arguments of the architecture."""
        outputs = {"num_classes": len(self.classes)} if self.classes else {}
        return {"args": {**outputs, **self.args}, "size": self.size, "output_stride": self.output_stride}

    def dense(self, source: Source) -> nn.Module:
        """Return the network with the requested weights."""
        from pruningbench.contract import UsageError, expanded, isolated_randomness
        from pruningbench_timm.build import build, load_checkpoint, weights_of
        from pruningbench_timm.checkpoints import read_checkpoint

        options = self.options()
        with isolated_randomness(self.seed, "initial weights"):
            if self.checkpoint is not None:
                path = expanded(self.checkpoint)
                return load_checkpoint(source, path, prefix=self.prefix, ignore=self.ignore, **options)
            if not self.pretrained:
                return build(source, **options)
            outputs, own = options["args"].get("num_classes"), source.settings.get("num_classes")
            if outputs not in (None, 0, own):
                raise UsageError(
                    f"{self.name}: the published weights have {own} classes, not {outputs}; leave `classes` out, or "
                    "give a `checkpoint` or `pretrained: false`"
                )
            return build(source, **options, state=read_checkpoint(weights_of(source)))

    def is_random(self) -> bool:
        """Whether the weights are neither published ones nor those of a checkpoint."""
        return self.checkpoint is None and not self.pretrained

    def shape(self) -> tuple[int | None, float | None]:
        """Return the requested size and crop."""
        return self.size, self.crop

    def named(self) -> tuple[str, ...]:
        """Return the declared classes."""
        return self.classes

    def skeleton(self) -> nn.Module | None:
        """Return the network without weights on the meta device; None for a hub model not yet fetched."""
        from pruningbench_timm.build import HUB, repository_of

        if self.name.startswith(HUB) and repository_of(self.name, self.revision).cached("config.json") is None:
            return None
        return super().skeleton()

    def load_fetches(self) -> bool:
        """Return whether `load` may fetch missing weights; a local checkpoint is never fetched."""
        return self.checkpoint is None and super().load_fetches()

    def missing(self) -> str | None:
        """Return which file has to be fetched and how, without network access."""
        from pruningbench.contract import expanded
        from pruningbench_timm.build import HUB, known_source, repository_of

        if self.checkpoint is not None and not expanded(self.checkpoint).is_file():
            return f"{expanded(self.checkpoint)}: no such checkpoint"
        hub = self.name.startswith(HUB)
        source = None if hub else known_source(self.name, self.revision)
        wanted = self.pretrained and self.checkpoint is None
        if source is not None:
            return published(source) if wanted else None
        repository = repository_of(self.name, self.revision)
        files = ["config.json"] if not wanted else ["config.json", "model.safetensors"]
        if repository.cached("config.json") and (not wanted or _has_weights(repository)):
            return None
        command = repository.command(*files)
        return f"{repository} is not on this machine; it is fetched on first use, or with `{command}`"


def published(source: Source) -> str | None:
    """Return how to get a source's published weights, or None if they are on this machine."""
    from pruningbench_timm.build import place_of

    if source.repository is not None and not _has_weights(source.repository):
        command = source.repository.command("model.safetensors")
        return (
            f"weights {source.repository} are not on this machine; they are fetched on first use, or with `{command}`"
        )
    if source.url and not place_of(source.url).is_file():
        place = place_of(source.url)
        return f"weights are not on this machine; they are fetched on first use, or download {source.url} to {place}"
    return None


def _has_weights(repository: Any) -> bool:
    from pruningbench_timm.hub import WEIGHTS

    return repository.cached(*WEIGHTS) is not None
