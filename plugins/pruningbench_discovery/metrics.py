"""Metrics of discovered boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import Boxes, Metric, Outputs, param

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.statistics import Floats


@dataclass(frozen=True)
class CorLoc(Metric):
    """Share of images whose box has IoU >= .5 with any true box; higher is better.

    Only the first box of an image counts; no box is a miss. An image without true boxes is NaN.
    Source: Deselaers et al., ECCV 2010.
    """

    consumes = Boxes
    unit = "fraction"
    range = (0.0, 1.0)

    threshold: float = param(0.5, doc="smallest intersection over union that counts as a hit, in (0, 1]")

    def problem(self) -> str | None:
        """Refuse a threshold outside (0, 1]."""
        return None if 0 < self.threshold <= 1 else f"threshold must lie in (0, 1], got {self.threshold}"

    def values(self, outputs: Boxes) -> Tensor:
        """(N,) float64: 1 for a hit, 0 for a miss, NaN without true boxes."""
        best = _first_box_iou(outputs)
        return (best >= self.threshold).double().masked_fill(best.isnan(), float("nan"))

    def chance(self, outputs: Boxes) -> Tensor | None:
        """(N,) float64 of a box around the whole image; None if the image sizes are unknown."""
        whole_images = _whole_images(outputs)
        return None if whole_images is None else self.values(whole_images)


@dataclass(frozen=True)
class BestIoU(Metric):
    """Largest IoU of an image's box with any true box, averaged over images; higher is better.

    Only the first box of an image counts; no box gives 0. An image without true boxes is NaN.
    """

    consumes = Boxes
    unit = "fraction"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def values(self, outputs: Boxes) -> Tensor:
        """(N,) float64 in [0, 1], NaN without true boxes."""
        return _first_box_iou(outputs)

    def chance(self, outputs: Boxes) -> Tensor | None:
        """(N,) float64 of a box around the whole image; None if the image sizes are unknown."""
        whole_images = _whole_images(outputs)
        return None if whole_images is None else self.values(whole_images)


@dataclass(frozen=True)
class DetectionRate(Metric):
    """Share of all true boxes that a predicted box covers with IoU >= .5; higher is better.

    All boxes of an image count, so methods that find several objects are judged by all of them. An image
    without true boxes is NaN.
    Source: Vo et al., Toward Unsupervised, Multi-Object Discovery in Large-Scale Image Collections, ECCV 2020.
    """

    consumes = Boxes
    unit = "fraction"
    range = (0.0, 1.0)

    threshold: float = param(0.5, doc="smallest intersection over union that counts as a detection, in (0, 1]")

    def problem(self) -> str | None:
        """Refuse a threshold outside (0, 1]."""
        return None if 0 < self.threshold <= 1 else f"threshold must lie in (0, 1], got {self.threshold}"

    def values(self, outputs: Boxes) -> Tensor:
        """(N, 2) float64: number of true boxes detected, and number of true boxes; NaN where there are none."""
        import torch

        from pruningbench_discovery.iou import detections

        true = torch.tensor([len(boxes) for boxes in outputs.truth], dtype=torch.float64)
        hits = detections(outputs.predicted, outputs.truth, self.threshold)
        return torch.stack([hits, true], dim=1).masked_fill(true[:, None] == 0, float("nan"))

    def chance(self, outputs: Boxes) -> Tensor | None:
        """(N, 2) float64 of a box around the whole image; None if the image sizes are unknown."""
        whole_images = _whole_images(outputs)
        return None if whole_images is None else self.values(whole_images)

    def aggregate(self, values: Floats) -> float:
        """Detected boxes divided by true boxes, over all images."""
        detected, true = values.sum(axis=0)
        return float(detected / true)


@dataclass(frozen=True)
class MaskIoU(Metric):
    """Intersection over union of all pixels found and the true masks; higher is better.

    It applies to data with masks. An image with an empty mask is NaN.
    """

    consumes = Boxes
    unit = "fraction"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether there are masks."""
        return isinstance(outputs, Boxes) and outputs.foreground is not None and outputs.masks is not None

    def values(self, outputs: Boxes) -> Tensor:
        """(N,) float64 in [0, 1], NaN for empty masks."""
        import torch

        pairs = zip(outputs.foreground or (), outputs.masks or (), strict=True)
        counts = [(int((a & b).sum()), int((a | b).sum()), int(b.sum())) for a, b in pairs]
        shared, joined, true = torch.tensor(counts, dtype=torch.float64).reshape(-1, 3).unbind(dim=1)
        return (shared / joined).masked_fill(true == 0, float("nan"))

    def chance(self, outputs: Boxes) -> Tensor:
        """(N,) float64 of finding the whole image: the mask's share of the area."""
        import torch

        shares = torch.tensor([float(mask.double().mean()) for mask in outputs.masks or ()], dtype=torch.float64)
        return shares.masked_fill(shares == 0, float("nan"))


def _whole_images(outputs: Boxes) -> Boxes | None:
    """Return boxes around the whole images instead of those found."""
    import torch

    if outputs.sizes is None:
        return None
    whole = [torch.tensor([[0.0, 0.0, width, height]]) for height, width in outputs.sizes]
    return Boxes(whole, outputs.truth)


def _first_box_iou(outputs: Boxes) -> Tensor:
    import torch

    from pruningbench_discovery.iou import best_iou

    none = torch.full((4,), float("nan"))
    first = [boxes[0].float().cpu() if len(boxes) else none for boxes in outputs.predicted]
    return best_iou(torch.stack(first) if first else torch.empty(0, 4), outputs.truth)
