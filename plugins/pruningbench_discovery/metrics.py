"""Metrics of discovered boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.components import Boxes, Metric, param

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CorLoc(Metric):
    """Share of images whose box has IoU >= .5 with any true box; higher is better.

    The first box of an image counts, none is a miss, and an image without true boxes is NaN.
    Source: Deselaers et al., ECCV 2010.
    """

    consumes = Boxes
    unit = "fraction"
    range = (0.0, 1.0)

    threshold: float = param(0.5, doc="smallest intersection over union of a hit, in (0, 1]")

    def problem(self) -> str | None:
        """Refuse a threshold that is no share."""
        return None if 0 < self.threshold <= 1 else f"threshold must lie in (0, 1], got {self.threshold}"

    def values(self, outputs: Boxes) -> Tensor:
        """(N,) float64: 1 for a hit, 0 for a miss, NaN without true boxes."""
        best = _first_box_iou(outputs)
        return (best >= self.threshold).double().masked_fill(best.isnan(), float("nan"))


@dataclass(frozen=True)
class BestIoU(Metric):
    """Largest IoU of an image's box with any true box, averaged over images; higher is better.

    The first box of an image counts, none is 0, and an image without true boxes is NaN.
    """

    consumes = Boxes
    unit = "fraction"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def values(self, outputs: Boxes) -> Tensor:
        """(N,) float64 in [0, 1], NaN without true boxes."""
        return _first_box_iou(outputs)


def _first_box_iou(outputs: Boxes) -> Tensor:
    import torch

    from pruningbench_discovery.iou import best_iou

    none = torch.full((4,), float("nan"))
    first = [boxes[0].float().cpu() if len(boxes) else none for boxes in outputs.predicted]
    return best_iou(torch.stack(first) if first else torch.empty(0, 4), outputs.truth)
