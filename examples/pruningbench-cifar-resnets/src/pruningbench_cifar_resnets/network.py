"""The residual networks for CIFAR of He et al., Deep residual learning for image recognition (CVPR 2016), section 4.2.

Parameters have the names of the checkpoints that are usually exchanged (``layer1.0.conv1.weight``, ``linear.bias``).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Shortcut = Literal["A", "B"]
WIDTHS = (16, 32, 64)
"""Channels of the three stages."""


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a shortcut around them.

    Where the number of channels grows, the shortcut halves the side of the map as well: it takes every second pixel,
    and either surrounds the channels with zeros (A) or has a 1 x 1 convolution with batch norm (B).
    """

    def __init__(self, channels_in: int, channels: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.stride, self.added = 1 + (channels > channels_in), channels - channels_in
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if shortcut == "B" and self.added:
            self.shortcut.append(nn.Conv2d(channels_in, channels, 1, stride=self.stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, h, w) -> (B, channels, h / stride, w / stride), >= 0."""
        around = self.shortcut(x)
        if self.added and not len(self.shortcut):
            around = functional.pad(x[..., ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        inside = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inside + around)


class CifarResNet(nn.Module):
    """A ResNet of `depth` = 6 n + 2 layers: a convolution, three stages of n blocks, and a linear map.

    Raises:
        ValueError: for another depth.
    """

    def __init__(self, depth: int, classes: int, shortcut: Shortcut = "A") -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth is {depth}, but must be 6 n + 2: 20, 32, 44, 56, 110, ...")
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        for stage, (before, channels) in enumerate(zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False), 1):
            sizes = [before, *[channels] * (depth // 6)]
            blocks = [Block(i, o, shortcut) for i, o in pairwise(sizes)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(WIDTHS[-1], classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, H / 4, W / 4), the output of the last stage, >= 0."""
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return x

    def classify(self, features: Tensor) -> Tensor:
        """(B, 64, h, w) features -> (B, classes) logits."""
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes) logits."""
        return self.classify(self.features(x))


def pad_crop_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment (B, C, H, W) uint8 images as the paper does: 4 black pixels around, and a crop of (H, W).

    Half of the crops are mirrored. All randomness comes from `generator`, which is on the CPU.
    """
    count, _, height, width = images.shape
    padded = functional.pad(images, (4, 4, 4, 4))
    top, left = torch.randint(0, 9, (2, count), generator=generator)
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    pick = torch.arange(count)[:, None, None]
    cropped = padded.movedim(1, -1)[pick, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return cropped.movedim(-1, 1).contiguous()
