"""The order of a map's pixels, shared by localisation and perturbation."""

from __future__ import annotations

import torch
from torch import Tensor


def pixel_ranks(maps: Tensor) -> Tensor:
    """Return each pixel's place when the map is sorted from the largest value to the smallest.

    Equal values are ordered by index, row by row.

    Args:
        maps: (B, H, W) float.

    Returns:
        (B, H * W) int64, a permutation of 0..H * W - 1 in every row; 0 is the most relevant pixel.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def is_ranked(maps: Tensor) -> Tensor:
    """Return which maps (B, H, W) define an order of pixels, (B,) bool.

    A map of zeros has no relevant pixel, and a map with non-finite values has no order. A network without
    gradients produces both.
    """
    flat = maps.flatten(1)
    return flat.isfinite().all(dim=1) & (flat != 0).any(dim=1)
