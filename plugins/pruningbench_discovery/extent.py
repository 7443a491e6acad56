"""Metrics of how much of the image the discovered boxes cover: CorLoc does not tell a box from the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import Boxes, Metric, Outputs, param

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BoxArea(Metric):
    """Area of an image's first box, as a share of the image; 1 is a box around everything.

    Neither direction is better: compare it with that of the dense network and of the true objects. A CorLoc that stays
    while this share grows is that of the whole image. An image without a box is NaN.
    """

    consumes = Boxes
    unit = "fraction"
    higher_is_better = None
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether the sizes of the images are known."""
        return isinstance(outputs, Boxes) and outputs.sizes is not None

    def values(self, outputs: Boxes) -> Tensor:
        """(N,) float64 in [0, 1], NaN without a box."""
        return _shares(outputs)


@dataclass(frozen=True)
class WholeImageRate(Metric):
    """Share of images whose first box covers more than a threshold of the image; lower is better.

    Such a box says nothing about where the object is, even where the object is that large. An image without a
    box is NaN.
    """

    consumes = Boxes
    unit = "fraction"
    higher_is_better = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    threshold: float = param(0.9, doc="share of the image that a box has to exceed to count, in [0, 1)")

    def problem(self) -> str | None:
        """Refuse a threshold outside [0, 1)."""
        return None if 0 <= self.threshold < 1 else f"threshold must lie in [0, 1), got {self.threshold}"

    def applies(self, outputs: Outputs) -> bool:
        """Whether the sizes of the images are known."""
        return isinstance(outputs, Boxes) and outputs.sizes is not None

    def values(self, outputs: Boxes) -> Tensor:
        """(N,) float64: 1 for a box around nearly everything, 0 for a smaller one, NaN without a box."""
        shares = _shares(outputs)
        return (shares > self.threshold).double().masked_fill(shares.isnan(), float("nan"))


def _shares(outputs: Boxes) -> Tensor:
    """Return the (N,) areas of the parts of the first boxes that lie in their images, as shares of the images."""
    import torch

    shares = []
    for boxes, (height, width) in zip(outputs.predicted, outputs.sizes or (), strict=True):
        if not len(boxes):
            shares.append(float("nan"))
            continue
        left, top, right, bottom = boxes[0].double().tolist()
        inside = max(min(right, width) - max(left, 0.0), 0.0) * max(min(bottom, height) - max(top, 0.0), 0.0)
        shares.append(inside / (height * width))
    return torch.tensor(shares, dtype=torch.float64)
