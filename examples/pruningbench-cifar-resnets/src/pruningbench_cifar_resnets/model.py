"""The model `cifar-resnet`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import (
    ComponentRef,
    Context,
    Facet,
    Grid,
    NewWeights,
    Preprocessing,
    VisionModel,
    expanded,
    isolated_randomness,
    param,
    tensors_digest,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench_cifar_resnets.network import CifarResNet

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
NORMS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""Mean and standard deviation of each channel, of intensities in [0, 1]."""


class View(VisionModel):
    """The views of a CIFAR ResNet: its last stage, the mean of it, and the linear map behind."""

    network: CifarResNet

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, 64): the mean of the last stage."""
        return self.network.features(images).mean((2, 3))

    def patch_features(self, images: Tensor, facet: Facet = "keys") -> Tensor:
        """(B, 3, H, W) normalised images -> (B, 64, H / 4, W / 4): the last stage, as keys or tokens."""
        if facet not in ("keys", "tokens"):
            raise self._lacks(facet)
        return self.network.features(images)

    def activation_module(self) -> tuple[nn.Module, Grid]:
        """Return the last stage, whose output is the grid."""
        return self.network.get_submodule("layer3"), lambda output, _images: output

    def head_split(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return images -> last stage (>= 0), and last stage -> logits."""
        return self.network.features, self.network.classify


@dataclass(frozen=True)
class CifarResNetModel(NewWeights):
    """A ResNet for CIFAR of 6 n + 2 layers, from a checkpoint or with random weights.

    Its size is one axis: `depth`. Images are 32 pixels wide; others are resized. Checkpoints have the names of
    akamaster/pytorch_resnet_cifar10, whose networks were trained on images normalised as for ImageNet. Source: He et
    al., Deep residual learning for image recognition (CVPR 2016), section 4.2.
    """

    training_data: ClassVar[ComponentRef | None] = {"use": "cifar10", "split": "train"}

    depth: int = param(20, doc="layers, 6 n + 2: 20, 32, 44, 56 and 110 in the paper")
    checkpoint: str | None = param(None, doc="weight file: safetensors, or a PyTorch file without code; null for none")
    shortcut: Literal["A", "B"] = param("A", doc="growing shortcuts: zeros around (A) or a 1 x 1 convolution (B)")
    normalisation: Literal["imagenet", "cifar10", "cifar100"] = param(
        "imagenet", doc="mean and standard deviation of the images that the checkpoint was trained on"
    )
    classes: tuple[str, ...] = param(CIFAR10, doc="class names in logit order; CIFAR-10's by default")
    augmentation: Literal["none", "crop-flip"] = param("crop-flip", doc="for training: none, or shifts and flips")
    seed: int = param(0, doc="seed of random weights, >= 0")

    def problem(self) -> str | None:
        """Check the ranges."""
        if self.depth < 8 or self.depth % 6 != 2:
            return f"depth is {self.depth}, but must be 6 n + 2: 20, 32, 44, 56, 110, ..."
        if not self.classes or len(set(self.classes)) < len(self.classes):
            return "classes must name at least one class, and none twice"
        return "seed must be at least 0" if self.seed < 0 else None

    def load(self, context: Context) -> VisionModel:
        """Return the network with its weights on ``context.device``, in eval mode.

        Raises:
            MissingDataError: if there is no such checkpoint.
            PruningBenchError: if the checkpoint holds code, or does not fit the fields.
        """
        from pruningbench_cifar_resnets.checkpoint import load_checkpoint
        from pruningbench_cifar_resnets.network import pad_crop_flip

        with isolated_randomness("cifar-resnet", self.seed):
            network = self._build()
        if self.checkpoint is not None:
            load_checkpoint(network, expanded(self.checkpoint))
        model = View(
            network.eval().to(context.device),
            Preprocessing(*NORMS[self.normalisation], size=SIDE, interpolation="bilinear"),
            classes=self.classes,
            head=("linear.weight", "linear.bias"),
            augment=pad_crop_flip if self.augmentation == "crop-flip" else None,
            fresh=self._build,
            norm_init=self.norm_init,
        )
        if self.checkpoint is None:
            model.start_norms()
        model.fingerprint = tensors_digest(network.state_dict())[:16]
        return model

    def missing(self) -> str | None:
        """Return which checkpoint is missing, or None."""
        if self.checkpoint is None or expanded(self.checkpoint).is_file():
            return None
        return f"{expanded(self.checkpoint)}: no such checkpoint"

    def skeleton(self) -> nn.Module:
        """Return the network on the meta device."""
        import torch

        with torch.device("meta"):
            network = self._build()
        network.default_cfg = {"input_size": (3, SIDE, SIDE)}  # type: ignore[assignment]
        return network.eval()

    def _build(self) -> CifarResNet:
        from pruningbench_cifar_resnets.network import CifarResNet

        return CifarResNet(self.depth, len(self.classes), self.shortcut)
