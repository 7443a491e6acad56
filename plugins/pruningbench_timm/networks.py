"""Small networks, built from timm's own classes."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

PATCH = 4  # pixels
SLOWEST = 100.0  # ratio of longest to shortest wavelength of the position embeddings


def small_resnet(classes: int, channels: tuple[int, ...], stem_width: int) -> nn.Module:
    """Return a ResNet with four stages of one basic block, one grey input channel and a total stride of 4.

    The deep stem (three 3 x 3 convolutions) halves the image and has no pooling; stage 2 halves it again.
    Stages 3 and 4 keep the grid, without dilation, so that each cell sees mostly its own area. Features are
    max-pooled: with average pooling the background would also contribute to the class, and its features would
    no longer differ clearly from those of the objects. Any image size works.
    """
    block: Any = BasicBlock  # timm's annotation asks for an instance
    network: Any = ResNet(
        block,
        (1, 1, 1, 1),
        num_classes=classes,
        in_chans=1,
        channels=channels,
        stem_width=stem_width,
        stem_type="deep",
        output_stride=8,
        global_pool="max",
    )
    network.maxpool = nn.Identity()
    for module in network.modules():  # timm dilates the stages that no longer halve the grid
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            module.dilation = module.padding = (1, 1)
    built: nn.Module = network
    return built


def small_vit(classes: int, size: int, width: int, depth: int, heads: int) -> nn.Module:
    """Return a vision transformer with patches of 4 pixels for one grey channel.

    Position embeddings are initialised with sines and cosines and then trained, so a few hundred images are enough
    for training. They are defined for images of `size` pixels and interpolated for other sizes, which must be
    divisible by 4.
    """
    if width % 4:
        raise ValueError(f"width {width} must be divisible by 4, for the sines and cosines of two axes")
    network: Any = VisionTransformer(
        img_size=size,
        patch_size=PATCH,
        in_chans=1,
        num_classes=classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=2,
        dynamic_img_size=True,
        weight_init="jax",  # scales with the width; the usual 0.02 would start narrow layers near zero
    )
    with torch.no_grad():
        network.pos_embed[0, network.num_prefix_tokens :] = sines(size // PATCH, width)
    built: nn.Module = network
    return built


def sines(side: int, width: int) -> Tensor:
    """Return (side * side, width) sines and cosines of a square grid's rows and columns.

    Sines and cosines of the column and of the row take a quarter of the width each; frequencies fall
    geometrically from 1 to about 1/100. Based on X. Chen et al., An empirical study of training
    self-supervised vision transformers (2021), with a base suited to small grids.
    """
    frequency = SLOWEST ** -(torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    down, across = row.reshape(-1, 1) * frequency, column.reshape(-1, 1) * frequency
    return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], 1)
