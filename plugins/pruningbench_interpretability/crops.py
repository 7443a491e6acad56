"""Crops: the square parts of images on which concepts are found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

USUAL = 224
"""Side of the image, in pixels, that the crop side refers to."""


@dataclass(frozen=True)
class CropGrid:
    """Positions of an image's crops, row by row from the upper left corner.

    Attributes:
        size: (H, W) of the image, in pixels.
        side, stride: of a crop, in pixels. Remainders at the right and lower edges are not covered.
    """

    size: tuple[int, int]
    side: int
    stride: int

    @classmethod
    def of(cls, size: tuple[int, int], patch: int, stride: float) -> CropGrid:
        """Return the grid for images of `size`.

        Args:
            size: (H, W) in pixels.
            patch: side of a crop in pixels for an image whose shorter side is 224; it scales with the image.
            stride: distance between crops as a share of their side, rounded down to whole pixels.
        """
        shorter = min(size)
        side = min(max(round(patch * shorter / USUAL), 1), shorter)
        return cls(size, side, max(int(side * stride), 1))

    def __len__(self) -> int:
        rows, columns = (1 + (length - self.side) // self.stride for length in self.size)
        return rows * columns

    def boxes(self) -> Tensor:
        """Return the (n, 4) float32 boxes xmin, ymin, xmax, ymax of an image's crops, maximum exclusive."""
        top, left = (torch.arange(0, length - self.side + 1, self.stride) for length in self.size)
        y, x = (grid.flatten() for grid in torch.meshgrid(top, left, indexing="ij"))
        return torch.stack([x, y, x + self.side, y + self.side], dim=1).float()

    def cut(self, images: Tensor) -> Tensor:
        """Cut (B, C, H, W) images into (B * n, C, side, side), image by image."""
        parts = images.unfold(2, self.side, self.stride).unfold(3, self.side, self.stride)
        return parts.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)

    def enlarge(self, crops: Tensor) -> Tensor:
        """Resize (M, C, side, side) crops to the images' size, bilinearly."""
        return interpolate(crops, self.size, mode="bilinear", align_corners=False)
