"""One image and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it.

    Attributes:
        image: (C, H, W) uint8, RGB or one grey channel.
        label: index into the data set's classes, or None.
        boxes: (K, 4) float32 boxes xmin, ymin, xmax, ymax in pixels, 0-based, maximum edges exclusive.
        mask: (H, W) bool, True on the objects.
        key: identifies the sample within its data set (a file name, an index).
    """

    image: Tensor
    label: int | None = None
    boxes: Tensor | None = None
    mask: Tensor | None = None
    key: str = ""
