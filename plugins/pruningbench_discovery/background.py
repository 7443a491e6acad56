"""FOUND's first stage: the object is everything that does not resemble the background.

Siméoni et al., Unsupervised Object Localization: Observing the Background to Discover Objects, CVPR 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruningbench_discovery.affinity import check_grid, unit_rows

FOUND_TAU = 0.3
"""The paper's threshold on the cosine with the background's seed."""


def found_background(features: Tensor, grid: tuple[int, int], attention: Tensor, tau: float = FOUND_TAU) -> Tensor:
    """Return the background of each image: the patches that resemble the least attended patch.

    Let a_hp be the attention of head h to patch p, q_h the share of patches to which h gives more than the
    image's mean, and w_h = log(sum of q / q_h). The seed is the patch with the smallest sum of w_h a_hp; of
    equal sums, the patch with the lower index. A patch is background if its features, with each head's part
    multiplied by w_h, have a cosine above `tau` with those of the seed.

    Args:
        features: (B, N, D) float features of the patches in row-major order; D concatenates the heads.
        grid: (h, w) with h * w = N.
        attention: (B, heads, N) float >= 0, from the class token to the patches; heads divides D. For a
            network without attention, one head with the patches' activity.
        tau: threshold on the cosine, in [-1, 1].

    Returns:
        (B, h, w) bool, True on the background; all True where no object can be separated from it: if
        features or attention are not finite, or the seed's features are all zero.

    Raises:
        ValueError: if the shapes do not fit or `tau` is out of range.
    """
    check_grid(features, grid)
    heads = attention.shape[1] if attention.ndim == 3 else 0
    if not heads or attention.shape[::2] != features.shape[:2] or features.shape[2] % heads:
        raise ValueError(f"attention {tuple(attention.shape)} does not fit features {tuple(features.shape)}")
    if not -1 <= tau <= 1:
        raise ValueError(f"tau must lie in [-1, 1], got {tau}")
    attended = attention.detach().double()
    finite = attended.isfinite().flatten(1).all(dim=1) & features.isfinite().flatten(1).all(dim=1)
    attended = torch.where(finite[:, None, None], attended, 0.0)
    weights = _head_weights(attended)
    seed = (weights[:, None] @ attended)[:, 0].argmin(dim=1)
    spread = weights.repeat_interleave(features.shape[2] // heads, dim=1)
    unit = unit_rows(features.double() * spread[:, None])
    reference = unit[torch.arange(len(unit), device=unit.device), seed]
    background = torch.bmm(unit, reference[:, :, None])[:, :, 0] > tau
    nothing = ~finite | (reference == 0).all(dim=1)
    return (background | nothing[:, None]).view(-1, *grid)


def _head_weights(attention: Tensor) -> Tensor:
    """Return (B, heads) weights: larger for heads that single out fewer patches; 1 for a single head."""
    if attention.shape[1] == 1:
        return attention.new_ones(len(attention), 1)  # the formula would give log 1 = 0
    above = attention > attention.flatten(1).mean(dim=1)[:, None, None]
    share = above.double().mean(dim=2).clamp_min(1 / attention.shape[2])  # a head without any counts as having one
    return (share.sum(dim=1, keepdim=True) / share).log()
