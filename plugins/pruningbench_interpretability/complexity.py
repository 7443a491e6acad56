"""How concentrated a saliency map is."""

from __future__ import annotations

import torch
from torch import Tensor


def gini(maps: Tensor) -> Tensor:
    """Return the Gini index of each map's absolute values: how few pixels hold the relevance.

    sum_i (2i - n - 1) a_(i) / (n sum_i a_i) over the n pixels in ascending order, i = 1..n; 0 for a
    uniform map, (n - 1) / n for a single relevant pixel. Computed in float64.
    Source: Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training, ICML
    2020.

    Args:
        maps: (B, H, W) float of either sign.

    Returns:
        (B,) float64 in [0, 1); NaN for a map of zeros or with non-finite values.
    """
    values = maps.flatten(1).abs().double().sort(dim=1).values
    n = values.shape[1]
    weights = 2 * torch.arange(1, n + 1, device=maps.device, dtype=torch.float64) - n - 1
    return (values @ weights) / (n * values.sum(dim=1))


def entropy(maps: Tensor, *, epsilon: float = 0.0) -> Tensor:
    """Return the entropy of each map's absolute values, normalised to sum 1, in nats: low = concentrated.

    -sum_i p_i ln p_i with p_i = a_i / sum_j a_j and 0 ln 0 = 0. Computed in float64.
    Source: Bhatt, Weller and Moura, Evaluating and Aggregating Feature-based Model Explanations, IJCAI 2020.

    Args:
        maps: (B, H, W) float of either sign.
        epsilon: added to every absolute value first, as in some published values (1e-7); it raises the
            entropy of a map with one relevant pixel from 0 to about 1e-3.

    Returns:
        (B,) float64 in [0, ln(H * W)]; without `epsilon`, NaN for a map of zeros or with non-finite values.
    """
    values = maps.flatten(1).abs().double() + epsilon
    shares = values / values.sum(dim=1, keepdim=True)
    return -torch.xlogy(shares, shares).sum(dim=1)
