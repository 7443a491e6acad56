"""Graphs of similar patches; similarities within rounding error of the threshold are recomputed exactly."""

from __future__ import annotations

import torch
from torch import Tensor

_PAIRS = 2**20
"""Feature values gathered at a time for similarities that are recomputed."""
_BLOCK_CPU, _BLOCK_GPU = 2**24, 2**29
"""Number of similarities in a chunk of images: 128 MiB as float64 on a CPU."""


def check_grid(features: Tensor, grid: tuple[int, int]) -> None:
    """Refuse features that are not (B, N, D) with N = h * w.

    Raises:
        ValueError: naming both shapes.
    """
    if features.ndim != 3 or grid[0] * grid[1] != features.shape[1]:
        raise ValueError(f"features are {tuple(features.shape)}, not (B, N, D) with N = {grid[0]} * {grid[1]}")


def images_together(features: Tensor) -> int:
    """Return how many images' (N, N) matrices fit in memory at a time on the features' device, at least 1."""
    block = _BLOCK_CPU if features.device.type == "cpu" else _BLOCK_GPU
    return max(1, block // max(features.shape[1], 1) ** 2)


def unit_rows(features: Tensor) -> Tensor:
    """Return features (B, N, D) in float64 with rows of unit length.

    A zero row stays zero. An image with a non-finite value becomes zero, so that none of its patches
    resembles another.
    """
    exact = features.detach().double()
    finite = exact.isfinite().flatten(1).all(dim=1)
    exact = torch.where(finite[:, None, None], exact, 0.0)
    length: Tensor = exact.norm(dim=2, keepdim=True)
    return exact / length.clamp_min(torch.finfo(torch.float64).tiny)


def resembling(unit: Tensor, threshold: float) -> Tensor:
    """Return which pairs of patches have a cosine above `threshold`, to float64 accuracy.

    The product runs in float32, at half the cost of float64. Entries within its rounding error of the
    threshold are recomputed in float64.

    Args:
        unit: (B, N, D) float64 rows of unit length, or zero.
        threshold: in [-1, 1].

    Returns:
        (B, N, N) bool, symmetric.
    """
    if torch.get_float32_matmul_precision() != "highest":
        return torch.bmm(unit, unit.mT) > threshold
    low = unit.float()
    similarity = torch.bmm(low, low.mT)
    # |fl(x'y) - x'y| <= (D + 2) eps for unit x, y rounded to float32 (Higham 2002, eq. 3.5)
    bound = (unit.shape[2] + 2) * torch.finfo(torch.float32).eps
    above = similarity > threshold
    doubtful = (similarity.sub_(threshold).abs_() <= bound).nonzero()
    if len(doubtful) > similarity.numel() // 16:  # orthogonal or equal features: recomputing all is cheaper
        return torch.bmm(unit, unit.mT) > threshold
    for pairs in torch.split(doubtful, max(1, _PAIRS // unit.shape[2])):
        image, row, column = pairs.unbind(1)
        above[image, row, column] = (unit[image, row] * unit[image, column]).sum(1) > threshold
    return above
