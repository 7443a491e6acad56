"""Networks that pruning papers use, under short names, each pinned to published weights.

Revisions are commits of timm's repositories on the Hugging Face hub, so a name always means the same weights.
Where no commit is given, only timm's name with its tag pins the weights.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pruningbench.contract import param
from pruningbench_timm.models import OutputStride, TimmBase, published

if TYPE_CHECKING:
    from torch import nn

    from pruningbench_timm.build import Source

Pin = tuple[str, str | None]

RESNETS: dict[int, Pin] = {
    18: ("resnet18.tv_in1k", "590dfdd48494d2316a8385e1ca7fbec3b9359b35"),
    50: ("resnet50.tv_in1k", "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa"),
}
VITS: dict[int, Pin] = {
    16: ("vit_base_patch16_224.augreg_in21k_ft_in1k", "b5b38b8f7dd93ce67d12e356a8771556b95c8cf9"),
    32: ("vit_base_patch32_224.augreg_in21k_ft_in1k", None),
}
SWIN: Pin = ("swinv2_tiny_window8_256.ms_in1k", "f3bd824b55530df42ce3587be2f45817b66ac5bb")
DINOS: dict[str, Pin] = {
    "vit-s16": ("vit_small_patch16_224.dino", "733b42a211ebe03aa7327050699cfcee7cd96123"),
    "vit-s8": ("vit_small_patch8_224.dino", "1e26d402048865ad71f26f814c0d9f691254db37"),
    "vit-b16": ("vit_base_patch16_224.dino", "471e25ecc5462b6a824b8e3f974a5d48ee067ed1"),
}
DINOS_V2: dict[str, Pin] = {
    "vit-s14": ("vit_small_patch14_dinov2.lvd142m", None),
    "vit-b14": ("vit_base_patch14_dinov2.lvd142m", "1926dc569694559b394898d7ba5d88a775301036"),
}
MOCO = "https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_{epochs}ep/moco_v2_{epochs}ep_pretrain.pth.tar"
MOCO_MD5 = {200: "59fd9945", 800: "a04e12f8"}
"""First digits of the MD5 of MoCo v2's checkpoints, as published by the authors."""


@dataclass(frozen=True)
class Published(TimmBase):
    """Base of networks with unmodified published weights."""

    size: int | None = param(None, doc="image side in pixels, 0 to leave images unresized; null for the network's own")

    def problem(self) -> str | None:
        """Check the size."""
        if self.size is not None and self.size < 0:
            return f"size is {self.size}, but must be at least 0"
        return None

    @abstractmethod
    def pin(self) -> Pin:
        """Return timm's name of the weights, and their commit if known."""

    def source(self) -> Source:
        """Return where the network comes from."""
        from pruningbench_timm.build import known_source

        return known_source(*self.pin())

    def options(self) -> dict[str, Any]:
        """Return the arguments of the architecture."""
        return {"args": {}, "size": self.size}

    def dense(self, source: Source) -> nn.Module:
        """Return the network with its published weights."""
        from pruningbench_timm.build import build, weights_of
        from pruningbench_timm.checkpoints import read_checkpoint

        return build(source, **self.options(), state=read_checkpoint(weights_of(source)))

    def shape(self) -> tuple[int | None, float | None]:
        """Return the requested size."""
        return self.size, None

    def missing(self) -> str | None:
        """Return which weights have to be fetched and how, without network access."""
        return published(self.source())


@dataclass(frozen=True)
class ResNet(Published):
    """ResNet trained on ImageNet-1k with torchvision's first recipe (90 epochs).

    K. He et al., Deep residual learning for image recognition, CVPR 2016.
    """

    depth: Literal[18, 50] = param(50, doc="layers")
    output_stride: OutputStride = param(32, doc="pixels between cells of the last stage; 8 and 16 use dilation")

    def pin(self) -> Pin:
        """Return the weights of this depth."""
        return RESNETS[self.depth]

    def options(self) -> dict[str, Any]:
        """Return the arguments of the architecture."""
        return {**super().options(), "output_stride": self.output_stride}


@dataclass(frozen=True)
class ViT(Published):
    """ViT-B trained on ImageNet-21k and fine-tuned on ImageNet-1k.

    A. Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021; weights of A. Steiner et al., How to
    train your ViT?, TMLR 2022. The weights of patch 16 are pinned to a commit. Those of patch 32 are not: only
    timm's name with its tag chooses them.
    """

    patch: Literal[16, 32] = param(16, doc="side of a patch in pixels")

    def pin(self) -> Pin:
        """Return the weights of this patch size."""
        return VITS[self.patch]


@dataclass(frozen=True)
class Swin(Published):
    """Swin-V2-T trained on ImageNet-1k at 256 pixels.

    Z. Liu et al., Swin transformer V2: scaling up capacity and resolution, CVPR 2022.
    """

    def pin(self) -> Pin:
        """Return the weights."""
        return SWIN


@dataclass(frozen=True)
class Dino(Published):
    """A vision transformer trained on ImageNet-1k without labels by DINO; it has no classifier.

    M. Caron et al., Emerging properties in self-supervised vision transformers, ICCV 2021.
    """

    variant: Literal["vit-s16", "vit-s8", "vit-b16"] = param("vit-s16", doc="size of the network and of its patches")

    def pin(self) -> Pin:
        """Return the weights of this variant."""
        return DINOS[self.variant]


@dataclass(frozen=True)
class DinoV2(Published):
    """A vision transformer trained on LVD-142M without labels by DINOv2; it has no classifier.

    By default its images have 518 pixels; a smaller `size` is much faster. M. Oquab et al., DINOv2: learning
    robust visual features without supervision, TMLR 2024. Those with registers are models of `timm`, such as
    ``vit_base_patch14_reg4_dinov2.lvd142m``.
    """

    variant: Literal["vit-s14", "vit-b14"] = param("vit-b14", doc="size of the network and of its patches")

    def pin(self) -> Pin:
        """Return the weights of this variant."""
        return DINOS_V2[self.variant]


@dataclass(frozen=True)
class MoCoV2(TimmBase):
    """ResNet-50 trained on ImageNet-1k without labels by MoCo v2; it has no classifier.

    X. Chen et al., Improved baselines with momentum contrastive learning, 2020. The authors' checkpoint
    (CC BY-NC 4.0) is fetched from their server and checked against the MD5 digits that they publish; the model
    is its query encoder.
    """

    epochs: Literal[200, 800] = param(800, doc="number of passes over ImageNet in training")
    checkpoint: str | None = param(None, doc="local copy of the authors' checkpoint; null to fetch it")
    output_stride: OutputStride = param(32, doc="pixels between cells of the last stage; 8 and 16 use dilation")

    def source(self) -> Source:
        """Return the architecture, with the preprocessing that the authors use in evaluation."""
        from pruningbench_timm.build import Source, known_source

        torchvision = known_source("resnet50.tv_in1k")  # same mean, std, size and crop
        return Source("mocov2", "resnet50", {**torchvision.settings, "num_classes": 0})

    def options(self) -> dict[str, Any]:
        """Return the arguments of the architecture."""
        return {"args": {"num_classes": 0}, "output_stride": self.output_stride}

    def dense(self, source: Source) -> nn.Module:
        """Return the query encoder without its projection head."""
        from pruningbench.contract import expanded
        from pruningbench_timm.build import build, fetched
        from pruningbench_timm.checkpoints import load_weights, read_checkpoint

        path = expanded(self.checkpoint) if self.checkpoint else fetched(self._url, MOCO_MD5[self.epochs])
        network = build(source, **self.options())
        load_weights(network, read_checkpoint(path), str(path), prefix="module.encoder_q.", ignore=("fc.*",))
        return network

    def load_fetches(self) -> bool:
        """Whether `load` fetches the checkpoint; it does not if the user names a local one."""
        return self.checkpoint is None

    def missing(self) -> str | None:
        """Return where to get the checkpoint if it is not on this machine."""
        from pruningbench.contract import expanded
        from pruningbench_timm.build import place_of

        path = expanded(self.checkpoint) if self.checkpoint else place_of(self._url)
        if path.is_file():
            return None
        if self.checkpoint:
            return f"{path}: no such checkpoint"
        return f"weights are not on this machine; they are fetched on first use, or download {self._url} to {path}"

    @property
    def _url(self) -> str:
        return MOCO.format(epochs=self.epochs)
