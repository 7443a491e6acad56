"""Curves of a class's probability while pixels are replaced, and the area under them.

Deletion and insertion follow Petsiuk, Das and Saenko, RISE, BMVC 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pruningbench_interpretability.ranking import is_ranked, pixel_ranks


@torch.no_grad()
def perturbation_curve(
    predict: Callable[[Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    *,
    ranks: Tensor,
    counts: Sequence[int],
    targets: Tensor,
    batch_size: int = 128,
) -> Tensor:
    """Return the probability of each image's target while pixels of `start` are replaced by `end`'s.

    All channels of a pixel are replaced at once. All images and points are evaluated in full batches.

    Args:
        predict: (B, C, H, W) -> (B, classes) probabilities.
        start: (N, C, H, W) images with nothing replaced.
        end: images with everything replaced, of a shape that broadcasts to that of `start`.
        ranks: (N, H * W) int64: the order of replacement, 0 first.
        counts: P numbers of replaced pixels, each in [0, H * W].
        targets: (N,) int64 classes.
        batch_size: largest batch given to `predict`.

    Returns:
        (N, P) float64.
    """
    n, points = len(start), len(counts)
    end = end.to(start).expand_as(start)
    replaced_below = torch.tensor(counts, device=start.device)
    ranks = ranks.view(n, 1, *start.shape[-2:])
    curve = torch.empty(n * points, dtype=torch.float64, device=start.device)
    for pairs in torch.split(torch.arange(n * points, device=start.device), batch_size):
        image, point = pairs // points, pairs % points
        kept = ranks[image] >= replaced_below[point].view(-1, 1, 1, 1)
        probabilities = predict(torch.where(kept, start[image], end[image]))
        curve[pairs] = probabilities.gather(1, targets[image, None])[:, 0].double()
    return curve.view(n, points)


def deletion_curve(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    steps: int = 16,
    baseline: float = 0.0,
    batch_size: int = 128,
) -> Tensor:
    """Return the probability of each image's target while its most relevant pixels are removed first.

    Args:
        predict: (B, C, H, W) -> (B, classes) probabilities.
        images: (N, C, H, W) normalised images.
        maps: (N, H, W) float, larger = more relevant.
        targets: (N,) int64, the class predicted on the whole image.
        steps: number of steps of equal size (up to rounding) from the whole image to an empty one.
        baseline: value of a removed pixel in normalised units; 0 is the training images' mean.
        batch_size: largest batch given to `predict`.

    Returns:
        (N, steps + 1) float64 probabilities; NaN for a map of zeros or with values that are not finite.

    Raises:
        ValueError: for less than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    pixels = images.shape[-2] * images.shape[-1]
    counts = [round(pixels * step / steps) for step in range(steps + 1)]
    ranked = is_ranked(maps)
    curve = images.new_full((len(images), len(counts)), float("nan"), dtype=torch.float64)
    if bool(ranked.any()):
        end = images.new_full((1, 1, 1, 1), baseline)
        curve[ranked] = perturbation_curve(
            predict,
            images[ranked],
            end,
            ranks=pixel_ranks(maps[ranked]),
            counts=counts,
            targets=targets[ranked],
            batch_size=batch_size,
        )
    return curve


def area_under_curve(curve: Tensor) -> Tensor:
    """Return the trapezoid area under curves (N, P >= 2) over equally spaced points on [0, 1], (N,)."""
    return (curve.sum(dim=1) - (curve[:, 0] + curve[:, -1]) / 2) / (curve.shape[1] - 1)
