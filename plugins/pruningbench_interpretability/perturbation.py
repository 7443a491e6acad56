"""Curves of a class's probability while pixels are replaced, and the area under them.

Deletion and insertion follow Petsiuk, Das and Saenko, RISE, BMVC 2018; region perturbation follows Samek et al.,
Evaluating the Visualization of What a Deep Neural Network has Learned, IEEE TNNLS 28 (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from pruningbench_interpretability.ranking import is_ranked, pixel_ranks

Order = Literal["morf", "lerf"]
"""Most relevant first, or least relevant first."""
Predict = Callable[[Tensor], Tensor]


@torch.no_grad()
def perturbation_curve(
    predict: Predict,
    start: Tensor,
    end: Tensor,
    *,
    ranks: Tensor,
    counts: Sequence[int],
    targets: Tensor,
    batch_size: int = 128,
) -> Tensor:
    """Return the probability of each image's target while pixels of `start` are replaced by those of `end`.

    All channels of a pixel are replaced at once. All images and points are evaluated in full batches, and at
    most one batch of perturbed images exists at a time.

    Args:
        predict: (B, C, H, W) -> (B, classes) probabilities; may modify its input, must not keep it.
        start: (N, C, H, W) images with nothing replaced.
        end: images with all pixels replaced, of a shape that broadcasts to that of `start`.
        ranks: (N, H * W) int64: the order of replacement, 0 first; equal ranks are replaced together.
        counts: P ascending numbers; each point replaces the ranks below its number.
        targets: (N,) int64 classes.
        batch_size: largest batch given to `predict`.

    Returns:
        (N, P) float64; NaN for a target that is not a class.
    """
    n, points, (channels, height, width) = len(start), len(counts), start.shape[1:]
    end = end.to(start).expand_as(start)
    # the first point at which a pixel is replaced; a small type, since every pixel of every perturbed image is
    # compared with it
    small = torch.int16 if points < 1 << 15 else torch.int64
    ascending = torch.tensor(counts, dtype=ranks.dtype, device=start.device)
    replaced_at = torch.bucketize(ranks, ascending, right=True).to(small).view(n, 1, 1, height, width)
    point = torch.arange(points, dtype=small, device=start.device).view(-1, 1, 1, 1)
    curve = torch.empty(n, points, dtype=torch.float64, device=start.device)
    # all points of some images at once, or some points of one image, always in the same buffer
    images_at_once, points_at_once = max(1, batch_size // max(points, 1)), min(points, batch_size)
    memory = start.new_empty(min(images_at_once, n) * points_at_once, channels, height, width)
    for image in range(0, n, images_at_once):
        rows = slice(image, image + images_at_once)
        for first in range(0, points, points_at_once):
            columns = slice(first, first + points_at_once)
            intact = replaced_at[rows] > point[columns]
            batch = memory[: intact.shape[0] * intact.shape[1]]
            torch.where(
                intact, start[rows, None], end[rows, None], out=batch.view(*intact.shape[:2], channels, height, width)
            )
            repeated = targets[rows].repeat_interleave(intact.shape[1])
            curve[rows, columns] = score_of(predict(batch), repeated).view(intact.shape[:2])
    return curve


def score_of(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return (B,) float64 probabilities of (B,) targets from (B, classes); NaN for a target that is not a class."""
    valid = (targets >= 0) & (targets < probabilities.shape[1])
    picked = probabilities.gather(1, targets.where(valid, 0)[:, None])[:, 0].double()
    return picked.masked_fill(~valid, float("nan"))


def deletion_curve(
    predict: Predict,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    steps: int = 16,
    baseline: float = 0.0,
    batch_size: int = 128,
) -> Tensor:
    """Return the probability of each image's target while pixels are removed, most relevant first.

    Args:
        predict: (B, C, H, W) -> (B, classes) probabilities.
        images: (N, C, H, W) normalised images.
        maps: (N, H, W) float, larger = more relevant.
        targets: (N,) int64, the class predicted on the whole image.
        steps: number of steps of equal size (up to rounding) from the whole image to the empty one.
        baseline: value of a removed pixel in normalised units; 0 is the training images' mean.
        batch_size: largest batch given to `predict`.

    Returns:
        (N, steps + 1) float64 probabilities; NaN for a map of zeros or with non-finite values, and for a
        target that is not a class.

    Raises:
        ValueError: for fewer than one step.
    """
    counts = equal_steps(images, steps)

    def replace(some: Tensor) -> Tensor:
        end = images.new_full((1, 1, 1, 1), baseline)
        return perturbation_curve(
            predict, images[some], end, ranks=pixel_ranks(maps[some]), counts=counts, targets=targets[some],
            batch_size=batch_size,
        )  # fmt: skip

    return _where_ranked(maps, len(counts), replace)


def insertion_curve(
    predict: Predict,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    steps: int = 16,
    kernel: int = 11,
    sigma: float = 5.0,
    batch_size: int = 128,
) -> Tensor:
    """Return the probability of each image's target while pixels are restored, most relevant first.

    The start is the image blurred by a Gaussian of `sigma` pixels in a window of `kernel` x `kernel` pixels
    (`blur`), with zeros outside the image. Other arguments, result and errors are those of `deletion_curve`.
    """
    counts = equal_steps(images, steps)

    def replace(some: Tensor) -> Tensor:
        sharp = images[some]
        return perturbation_curve(
            predict, blur(sharp, kernel, sigma), sharp, ranks=pixel_ranks(maps[some]), counts=counts,
            targets=targets[some], batch_size=batch_size,
        )  # fmt: skip

    return _where_ranked(maps, len(counts), replace)


def region_perturbation_curve(
    predict: Predict,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    region: int = 8,
    regions: int | None = None,
    order: Order = "morf",
    baseline: float = 0.0,
    batch_size: int = 128,
) -> Tensor:
    """Return the probability of each image's target while square regions are removed by relevance.

    Regions are the tiles of a grid from the upper left corner, ranked by the sum of their relevance (ties
    by index); tiles at the right and lower borders may be smaller.

    Args:
        predict: (B, C, H, W) -> (B, classes) probabilities.
        images: (N, C, H, W) normalised images.
        maps: (N, H, W) float, larger = more relevant.
        targets: (N,) int64 classes.
        region: side of a tile in pixels.
        regions: number of tiles to remove, one at a time; None = all.
        order: ``morf`` = most relevant first, ``lerf`` = least relevant first.
        baseline: value of a removed pixel in normalised units.
        batch_size: largest batch given to `predict`.

    Returns:
        (N, regions + 1) float64 probabilities, starting with the whole image; NaN as for `deletion_curve`.

    Raises:
        ValueError: for a region or a number of regions below 1.
    """
    if region < 1 or (regions is not None and regions < 1):
        raise ValueError(f"region and regions must be at least 1, got {region} and {regions}")
    height, width = images.shape[-2:]
    rows, columns = (
        torch.arange(height, device=maps.device) // region,
        torch.arange(width, device=maps.device) // region,
    )
    tile = (rows[:, None] * (-(-width // region)) + columns).flatten()
    tiles = -(-height // region) * -(-width // region)
    steps = tiles if regions is None else min(regions, tiles)

    def replace(some: Tensor) -> Tensor:
        relevance = maps.new_zeros(int(some.sum()), tiles, dtype=torch.float64)
        relevance.index_add_(1, tile, maps[some].flatten(1).double())
        ranks = pixel_ranks((relevance if order == "morf" else -relevance)[:, None])[:, tile]
        end = images.new_full((1, 1, 1, 1), baseline)
        return perturbation_curve(
            predict, images[some], end, ranks=ranks, counts=range(steps + 1), targets=targets[some],
            batch_size=batch_size,
        )  # fmt: skip

    return _where_ranked(maps, steps + 1, replace)


def blur(images: Tensor, kernel: int, sigma: float) -> Tensor:
    """Convolve (B, C, H, W) images with a Gaussian of `sigma` pixels in a window with sides of `kernel` (odd) pixels.

    As in RISE's own code, the parts of the Gaussian outside the window are reflected into it.
    """
    reach = int(4 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    # end point of a step of `offset` from each position in the window: ... b a | a b ... y z | z y ...
    ends = (torch.arange(kernel)[:, None] + offsets) % (2 * kernel)
    ends = torch.where(ends < kernel, ends, 2 * kernel - 1 - ends)
    line = (weights * (ends == kernel // 2)).sum(dim=1) / weights.sum()
    line = line.to(images)
    single = images.flatten(0, 1)[:, None]
    single = conv2d(single, line.view(1, 1, -1, 1), padding=(kernel // 2, 0))
    return conv2d(single, line.view(1, 1, 1, -1), padding=(0, kernel // 2)).view_as(images)


def equal_steps(images: Tensor, steps: int) -> list[int]:
    """Return how many pixels are replaced at each of steps + 1 points, from none to all.

    Raises:
        ValueError: for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    pixels = images.shape[-2] * images.shape[-1]
    return [round(pixels * step / steps) for step in range(steps + 1)]


def area_under_curve(curve: Tensor) -> Tensor:
    """Return the trapezoid area under curves (N, P >= 2) over equally spaced points on [0, 1], (N,)."""
    return (curve.sum(dim=1) - (curve[:, 0] + curve[:, -1]) / 2) / (curve.shape[1] - 1)


def mean_drop(curve: Tensor) -> Tensor:
    """Return the mean over all points of (N, L + 1) curves of f(x) - f(x_k), k = 0 to L: the AOPC, (N,)."""
    return (curve[:, :1] - curve).mean(dim=1)


def _where_ranked(maps: Tensor, points: int, make: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (N, points) values computed for the maps that have an order; NaN for the others."""
    ranked = is_ranked(maps)
    curve = torch.full((len(maps), points), float("nan"), dtype=torch.float64, device=maps.device)
    if bool(ranked.any()):
        curve[ranked] = make(ranked)
    return curve
