"""Similarity of two maps of the same image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

K1, K2 = 0.01, 0.03
"""Constants of SSIM."""


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation of the pixels of two maps; equal values share their mean rank.

    Args:
        first: (B, H, W) float.
        second: (B, H, W) float.

    Returns:
        (B,) float64 in [-1, 1]; NaN where either map is constant or has non-finite values.
    """
    defined = first.flatten(1).isfinite().all(dim=1) & second.flatten(1).isfinite().all(dim=1)
    a, b = _centred(_mean_ranks(first)), _centred(_mean_ranks(second))
    correlation = (a * b).sum(dim=1) / (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return correlation.clamp(-1, 1).masked_fill(~defined, float("nan"))


def structural_similarity(first: Tensor, second: Tensor, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Return the mean SSIM of two maps, each divided by its largest absolute value first.

    Gaussian windows lie inside the map; variances are population variances; the range is 1. Maps smaller than
    the window use the largest odd window that fits.

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP
    13 (2004).

    Args:
        first: (B, H, W) float.
        second: (B, H, W) float.
        window: side of the window in pixels, odd.
        sigma: standard deviation of the window in pixels.

    Returns:
        (B,) float64 in [-1, 1]; NaN where either map is zero everywhere or has non-finite values.
    """
    a, b = _unit(first), _unit(second)
    side = min(window, *first.shape[-2:])
    side -= 1 - side % 2
    place = torch.arange(side, dtype=torch.float64) - side // 2
    line = torch.exp(-(place**2) / (2 * sigma**2))
    weights = (line / line.sum()).tolist()
    # a map fits the cache of a core, a batch does not; on an accelerator each call costs more than a map
    few = 1 if first.device.type == "cpu" else max(1, len(first))

    def mean(values: Tensor) -> Tensor:
        return torch.cat([_smooth(_smooth(maps, weights, 1), weights, 2) for maps in torch.split(values, few)])

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean(dim=(1, 2))


def _smooth(maps: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    """Return the weighted sums over a window that slides along one dimension, inside the maps.

    Sums of shifted maps: a convolution copies each pixel once for each weight, which takes two to five times as long.
    """
    length = maps.shape[dim] - len(weights) + 1
    total = maps.narrow(dim, 0, length) * weights[0]
    for shift, weight in enumerate(weights[1:], 1):
        total.add_(maps.narrow(dim, shift, length), alpha=weight)
    return total


def _mean_ranks(maps: Tensor) -> Tensor:
    """(B, H, W) -> (B, H * W) float64 ascending ranks from 0; equal values share their mean rank."""
    values, order = maps.flatten(1).sort(dim=1)
    n = values.shape[1]
    place = torch.arange(n, dtype=torch.float64, device=maps.device).expand_as(values)
    group = torch.zeros_like(order)
    group[:, 1:] = (values[:, 1:] != values[:, :-1]).cumsum(dim=1)
    size = torch.zeros_like(place).contiguous().scatter_add_(1, group, torch.ones_like(place))
    mean = torch.zeros_like(size).scatter_add_(1, group, place) / size
    return torch.empty_like(size).scatter_(1, order, mean.gather(1, group))


def _centred(ranks: Tensor) -> Tensor:
    return ranks - ranks.mean(dim=1, keepdim=True)


def _unit(maps: Tensor) -> Tensor:
    values = maps.double()
    return values / values.abs().amax(dim=(1, 2), keepdim=True)
