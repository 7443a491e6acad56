"""Intersection over union of predicted and true boxes, for all images in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def best_iou(boxes: Tensor, truths: Sequence[Tensor]) -> Tensor:
    """Return each box's largest intersection over union with any true box of its image.

    Args:
        boxes: (B, 4) xmin, ymin, xmax, ymax, maximum exclusive (width = xmax - xmin); NaN = no box.
        truths: B tensors (M, 4) in the same units.

    Returns:
        (B,) float64 in [0, 1]; 0 for no box; NaN for an image without true boxes.

    Raises:
        ValueError: if the numbers of images differ.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(truths):
        raise ValueError(f"boxes must be (B, 4) for {len(truths)} images, got {tuple(boxes.shape)}")
    counts = torch.tensor([len(truth) for truth in truths], dtype=torch.int64, device=boxes.device)
    best = torch.full((len(truths),), float("nan"), dtype=torch.float64, device=boxes.device)
    if not int(counts.sum()):
        return best
    true = torch.cat([truth.reshape(-1, 4) for truth in truths]).to(boxes.device, torch.float64)
    image = torch.arange(len(truths), device=boxes.device).repeat_interleave(counts)
    overlap = _iou(boxes.double()[image], true).nan_to_num(nan=0.0)
    return best.scatter_reduce(0, image, overlap, "amax", include_self=False)


def detections(predicted: Sequence[Tensor], truths: Sequence[Tensor], threshold: float = 0.5) -> Tensor:
    """Count the true boxes of each image that any of its predicted boxes covers.

    Args:
        predicted: B tensors (K, 4) xmin, ymin, xmax, ymax, maximum exclusive.
        truths: B tensors (M, 4) in the same units.
        threshold: smallest intersection over union that counts as a detection, in (0, 1].

    Returns:
        (B,) float64 integers in [0, M].

    Raises:
        ValueError: if the numbers of images differ.
    """
    counts = []
    for boxes, truth in zip(predicted, truths, strict=True):
        a, b = boxes.reshape(-1, 4).double().cpu(), truth.reshape(-1, 4).double().cpu()
        pairs = _iou(a.repeat_interleave(len(b), dim=0), b.repeat(len(a), 1)).view(len(a), len(b))
        counts.append(int((pairs >= threshold).any(dim=0).sum()))
    return torch.tensor(counts, dtype=torch.float64)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of boxes (K, 4) with boxes (K, 4), row by row."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(dim=1), (b[:, 2:] - b[:, :2]).prod(dim=1)
    return shared / (area_a + area_b - shared)


def corloc(boxes: Tensor, truths: Sequence[Tensor], threshold: float = 0.5) -> Tensor:
    """Return which images are correctly localised; the mean of the result is CorLoc.

    An image counts if its box has an intersection over union of at least `threshold` with any true
    box (Deselaers et al., Localizing Objects while Learning Their Appearance, ECCV 2010). For VOC's
    1-based annotations the published evaluation subtracts 1 from xmin and ymin of the truth first.

    Args:
        boxes: (B, 4) xmin, ymin, xmax, ymax, maximum exclusive; NaN = no box, which never counts.
        truths: B tensors (M, 4) in the same units; an image without true boxes never counts.
        threshold: smallest intersection over union that counts as a hit, in (0, 1].

    Returns:
        (B,) bool.
    """
    return best_iou(boxes, truths) >= threshold
