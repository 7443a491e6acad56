"""The small networks, built from timm's own classes."""

from __future__ import annotations

from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn


def small_resnet(classes: int, channels: tuple[int, ...], stem_width: int) -> nn.Module:
    """Return a ResNet of four stages of one basic block, for one grey channel and a total stride of 4.

    The deep stem (three 3 x 3 convolutions) halves the image, its pooling is left out, and stage 2
    halves it again; stages 3 and 4 are dilated instead. Any image size works.
    """
    network = ResNet(
        BasicBlock,
        (1, 1, 1, 1),
        num_classes=classes,
        in_chans=1,
        channels=channels,
        stem_width=stem_width,
        stem_type="deep",
        output_stride=8,
    )
    network.maxpool = nn.Identity()
    built: nn.Module = network
    return built


def small_vit(classes: int, size: int, width: int, depth: int, heads: int) -> nn.Module:
    """Return a vision transformer with patches of 4 pixels for one grey channel.

    Position embeddings belong to images of `size` pixels and are interpolated for others, whose sides
    must be divisible by 4.
    """
    built: nn.Module = VisionTransformer(
        img_size=size,
        patch_size=4,
        in_chans=1,
        num_classes=classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=2,
        dynamic_img_size=True,
    )
    return built
