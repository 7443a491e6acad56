"""The models `digits-resnet` and `digits-vit`: small networks that are trained during the run and cached."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pruningbench.contract import (
    ComponentRef,
    Context,
    DatasetRef,
    NewWeights,
    Preprocessing,
    VisionModel,
    derive_seed,
    param,
    range_problem,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from pruningbench.contract import Samples
    from pruningbench.training.checkpoints import Checkpoints
    from pruningbench_timm.vision import TimmVisionModel

SEEN: dict[str, Any] = {"use": "digits", "split": "train", "classes": [0, 1, 2, 3, 4, 5]}
SCENE = 36
"""Side of the scenes, in pixels, for which the position embeddings are defined."""
DIGITS = 10
PREPROCESSING = Preprocessing(mean=(0.25,), std=(0.3,))


@dataclass(frozen=True)
class DigitsModel(NewWeights):
    """Base of the small networks for handwritten digits.

    Training always runs on the CPU, so that equal settings give equal weights, and takes about ten seconds on
    two cores; the weights are cached. It goes from easy to hard: first plain digits, then digits in scenes
    (`SceneAugmentation`).
    """

    training_data: ClassVar[ComponentRef | None] = SEEN

    data: DatasetRef = param(dict(SEEN), doc="labelled greyscale digits to train on")
    plain_epochs: int = param(0, doc="initial passes over the data, on plain digits, >= 0")
    epochs: int = param(10, doc="further passes over the data, on digits in scenes, >= 0")
    lr: float = param(0.003, doc="peak learning rate of AdamW, > 0")
    seed: int = param(0, doc="seed of the initial weights, the order of the data and the augmentation, >= 0")

    def problem(self) -> str | None:
        """Check ranges."""
        for name, fine in (
            ("plain_epochs", self.plain_epochs >= 0),
            ("epochs", self.epochs >= 0 and self.epochs + self.plain_epochs >= 1),
            ("lr", self.lr > 0),
            ("seed", self.seed >= 0),
        ):
            if not fine:
                return range_problem(self, name)
        return None

    @abstractmethod
    def build(self, classes: int) -> nn.Module:
        """Return the network with random weights from the global generator."""

    def skeleton(self) -> nn.Module:
        """Return the untrained network on the meta device, with one output per class of the data."""
        import timm  # noqa: F401 - before the meta device is the default: modules of torch that it imports compute
        import torch

        chosen = self.data.get("classes") if isinstance(self.data, dict) else None
        with torch.device("meta"):
            network: Any = self.build(len(chosen) if chosen else DIGITS)
        network.default_cfg = {"input_size": (1, SCENE, SCENE)}
        built: nn.Module = network
        return built.eval()

    def load(self, context: Context) -> VisionModel:
        """Return the trained network on ``context.device``, in eval mode."""
        from pruningbench.contract import tensors_digest
        from pruningbench.training.checkpoints import Checkpoints

        samples = context.open_dataset(self.data)
        identity = self._identity(samples)
        stages = [Checkpoints(context.cache, {**identity, "stage": stage}) for stage in (0, 1)]
        state = context.cache.tensors("weights", identity, lambda: self._train(samples, context, stages))
        for checkpoints in stages:
            checkpoints.clear()
        model = self._untrained(samples)
        model.network.load_state_dict(state)
        model.network.to(context.device).eval()
        model.fingerprint = tensors_digest(state)[:16]
        return model

    def _identity(self, samples: Samples) -> dict[str, Any]:
        """Return everything that can change the trained weights."""
        import timm
        import torch

        fields = [f for f in dataclasses.fields(self) if f.metadata.get("identity", True) and f.name != "data"]
        return {
            "model": f"{type(self).__module__}:{type(self).__qualname__}",
            "version": type(self).version,
            "fields": {f.name: getattr(self, f.name) for f in fields if not self._is_left_out(f)},
            "data": samples.fingerprint,
            "torch": torch.__version__,
            "timm": timm.__version__,
        }

    def _is_left_out(self, field: dataclasses.Field[Any]) -> bool:
        """Whether a field was added later and is at its default, so that weights made before keep their identity."""
        return bool(field.metadata.get("later")) and getattr(self, field.name) == field.default

    def _untrained(self, samples: Samples) -> TimmVisionModel:
        from pruningbench.contract import isolated_randomness
        from pruningbench_timm.augmentation import SceneAugmentation
        from pruningbench_timm.vision import TimmVisionModel, classifier_names

        with isolated_randomness(self.seed, "initial weights"):
            network = self.build(len(samples.classes))
        return TimmVisionModel(
            network,
            PREPROCESSING,
            classes=samples.classes,
            head=classifier_names(network),
            augment=SceneAugmentation(),
            fresh=lambda: self.build(len(samples.classes)),
            norm_init=self.norm_init,
        )

    def _train(self, samples: Samples, context: Context, kept: Sequence[Checkpoints]) -> dict[str, Tensor]:
        from pruningbench.training.fit import fit
        from pruningbench.training.settings import FitSettings
        from pruningbench_timm.augmentation import SceneAugmentation

        model = self._untrained(samples).start_norms()
        stages: tuple[tuple[int, Literal["constant", "cosine"], SceneAugmentation], ...] = (
            (self.plain_epochs, "constant", SceneAugmentation.plain_digits()),
            (self.epochs, "cosine", SceneAugmentation()),
        )
        for stage, (epochs, schedule, augment) in enumerate(stages):
            if epochs:
                settings = FitSettings(
                    epochs, "adamw", self.lr, weight_decay=0.05, schedule=schedule, warmup=0.1, batch_size=32
                )
                fit(model, samples, settings, seed=derive_seed(self.seed, stage), augment=augment,
                    checkpoints=kept[stage], report=context.report)  # fmt: skip
        return {name: value.detach().clone() for name, value in model.network.state_dict().items()}


@dataclass(frozen=True)
class DigitsResNet(DigitsModel):
    """A small timm ResNet for handwritten digits, trained during the run and cached."""

    channels: tuple[int, int, int, int] = param((16, 32, 48, 64), doc="channels of the four stages, >= 1")
    stem_width: int = param(8, doc="channels of the stem's convolutions, >= 1; the last has twice as many")

    def problem(self) -> str | None:
        """Check ranges."""
        if min(*self.channels, self.stem_width) < 1:
            return f"channels {list(self.channels)} and stem_width {self.stem_width} must be at least 1"
        return super().problem()

    def build(self, classes: int) -> nn.Module:
        """Return the ResNet with random weights."""
        from pruningbench_timm.networks import small_resnet

        return small_resnet(classes, self.channels, self.stem_width)


@dataclass(frozen=True)
class DigitsViT(DigitsModel):
    """A small timm vision transformer for handwritten digits, trained during the run and cached."""

    plain_epochs: int = param(8, doc="initial passes over the data, on plain digits, >= 0")
    epochs: int = param(18, doc="further passes over the data, on digits in scenes, >= 0")
    width: int = param(64, doc="width of the tokens, divisible by 4 and by heads")
    depth: int = param(3, doc="blocks, >= 1")
    heads: int = param(4, doc="attention heads, >= 1")

    def problem(self) -> str | None:
        """Check ranges."""
        if min(self.width, self.depth, self.heads) < 1 or self.width % self.heads or self.width % 4:
            return (
                f"width {self.width} must be a multiple of 4 and of heads {self.heads}, "
                f"and depth {self.depth} at least 1"
            )
        return super().problem()

    def build(self, classes: int) -> nn.Module:
        """Return the transformer with random weights."""
        from pruningbench_timm.networks import small_vit

        return small_vit(classes, SCENE, self.width, self.depth, self.heads)
