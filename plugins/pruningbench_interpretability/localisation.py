"""How much of a map's relevance lies on the objects.

Arras, Osman and Samek, CLEVR-XAI, Information Fusion 81 (2022).
"""

from __future__ import annotations

from torch import Tensor

from pruningbench_interpretability.ranking import is_ranked, pixel_ranks


def relevance_mass(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each map's relevance that lies inside its mask (relevance mass accuracy).

    Negative values of a signed map count as no relevance. Computed in float64.

    Args:
        maps: (B, H, W) float.
        masks: (B, H, W) bool, True on the objects.

    Returns:
        (B,) float64 in [0, 1], for a uniform map the mask's share of the area; NaN for an empty mask and
        for a map without relevance or with values that are not finite.
    """
    relevance, inside = maps.flatten(1).double().clamp(min=0), masks.flatten(1)
    mass = (relevance * inside).sum(dim=1) / relevance.sum(dim=1)
    return mass.masked_fill(~inside.any(dim=1), float("nan"))


def relevance_rank(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of the K most relevant pixels that lie inside the mask (relevance rank accuracy).

    K is the number of pixels in the mask. Equal values are ordered by index.

    Args:
        maps: (B, H, W) float.
        masks: (B, H, W) bool, True on the objects.

    Returns:
        (B,) float64 in [0, 1]; NaN for an empty mask and for a map of zeros or with values that are not
        finite.
    """
    inside = masks.flatten(1)
    size = inside.sum(dim=1)
    hits = (inside & (pixel_ranks(maps) < size[:, None])).sum(dim=1)
    return (hits.double() / size).masked_fill(~is_ranked(maps), float("nan"))
