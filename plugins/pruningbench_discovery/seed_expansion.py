"""LOST: the box around the patches that resemble the least connected patch.

Siméoni et al., Localizing Objects with Self-Supervised Transformers and no Labels, BMVC 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruningbench_discovery.affinity import check_grid
from pruningbench_discovery.grid import bounding_boxes, connected_component

PAPER_K, PAPER_PATCHES = 100, 784
"""The paper's number of candidate patches, and the size of a 448 x 448 image's grid of 16-pixel patches."""

_BLOCK_CPU, _BLOCK_GPU = 2**20, 2**26
"""Similarities held in memory at a time; on a CPU, few enough to stay in its cache."""
_PAIRS = 2**20
"""Feature values gathered at a time for similarities that are recomputed."""


def lost(
    features: Tensor,
    grid: tuple[int, int],
    patch_size: int,
    image_size: tuple[int, int],
    k: int = PAPER_K,
) -> Tensor:
    """Return one box per image: the object that contains the patch of lowest degree.

    With A = F F', the degree of a patch is the number of other patches with a positive entry in A. The
    seed is the patch of lowest degree. Among the `k` patches of lowest degree, those with a positive
    similarity to the seed vote with their rows of A. The box surrounds the 4-connected part that contains
    the seed among the patches with a positive sum of votes. Equal degrees are ordered by index.

    Args:
        features: (B, N, D) float features of the patches in row-major order, without a class token.
        grid: (h, w) with h * w = N.
        patch_size: side of a patch in pixels.
        image_size: (H, W) in pixels before padding to whole patches; boxes end there.
        k: number of candidates of low degree, >= 1; larger than N means all.

    Returns:
        (B, 4) float32 boxes xmin, ymin, xmax, ymax in pixels, maximum exclusive. NaN where there is no
        object: if features are not finite or all zero.

    Raises:
        ValueError: if `grid` does not fit the features or `k` is below 1.
    """
    return bounding_boxes(lost_regions(features, grid, k), patch_size, image_size)


def lost_regions(features: Tensor, grid: tuple[int, int], k: int = PAPER_K) -> Tensor:
    """Return the objects inside the boxes of `lost`, (B, h, w) bool."""
    check_grid(features, grid)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not len(features):
        return torch.zeros(0, *grid, dtype=torch.bool, device=features.device)
    block = _BLOCK_CPU if features.device.type == "cpu" else _BLOCK_GPU
    together = max(1, block // features.shape[1] ** 2)
    parts = [_seed_and_votes(part, k) for part in torch.split(features.detach(), together)]
    seed, foreground = (torch.cat(part) for part in zip(*parts, strict=True))
    return connected_component(foreground.view(-1, *grid), seed)


def _seed_and_votes(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the seeds (B,), and which patches (B, N) have a positive sum of votes; none if not finite.

    The votes are F (sum of the voters' features), so the rows of A need not be stored.
    """
    exact = features.double()
    finite = exact.isfinite().all(dim=2).all(dim=1)
    if not bool(finite.all()):
        exact = torch.where(finite[:, None, None], exact, 0.0)
    candidates = degrees(exact).argsort(dim=1, stable=True)[:, :k]
    seed = candidates[:, 0]
    images = torch.arange(len(exact), device=exact.device)
    to_seed = torch.bmm(exact, exact[images, seed][:, :, None])[:, :, 0]
    voters = torch.zeros_like(to_seed).scatter_(1, candidates, 1.0) * (to_seed > 0)
    summed = torch.bmm(voters[:, None], exact)
    return seed, torch.bmm(exact, summed.mT)[:, :, 0] > 0


def degrees(features: Tensor) -> Tensor:
    """Return the number of other patches of the same image with a positive similarity to each patch.

    The product runs in float32 on rows of unit length, at half the cost of float64. Entries within its
    rounding error of zero, where the sign could be wrong, are recomputed in float64.

    Args:
        features: (B, N, D) float64, finite.

    Returns:
        (B, N) int64 in [0, N - 1].
    """
    if torch.get_float32_matmul_precision() != "highest":
        return _exact_degrees(features)
    unit = (features / features.norm(dim=2, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)).float()
    similarity = torch.bmm(unit, unit.mT)
    # |fl(x'y) - x'y| <= (D + 2) eps for unit x, y rounded to float32 (Higham 2002, eq. 3.5)
    bound = (features.shape[2] + 2) * torch.finfo(torch.float32).eps
    # as floats: summing booleans along rows is ten times slower
    positive = torch.gt(similarity, bound, out=torch.empty_like(similarity))
    degree = (positive.sum(dim=2) - positive.diagonal(dim1=1, dim2=2)).long()
    doubtful = (similarity.abs_() <= bound).nonzero()
    if len(doubtful) > similarity.numel() // 16:  # orthogonal or zero features: recomputing all is cheaper
        return _exact_degrees(features)
    for pairs in torch.split(doubtful, max(1, _PAIRS // features.shape[2])):
        image, row, column = pairs.unbind(1)
        connected = (features[image, row] * features[image, column]).sum(1) > 0
        degree.index_put_((image, row), connected.long(), accumulate=True)
    return degree


def _exact_degrees(features: Tensor) -> Tensor:
    positive = torch.bmm(features, features.mT) > 0
    return positive.sum(dim=2) - positive.diagonal(dim1=1, dim2=2).long()
