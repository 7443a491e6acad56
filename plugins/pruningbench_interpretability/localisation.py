"""Localisation: how much of a map's relevance lies on the objects.

Mass and rank: Arras, Osman and Samek, CLEVR-XAI, Information Fusion 81 (2022). Pointing game: Zhang et al.,
Top-down Neural Attention by Excitation Backprop, ECCV 2016.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from pruningbench_interpretability.ranking import is_ranked, pixel_ranks


def relevance_mass(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each map's relevance that lies inside its mask (relevance mass accuracy).

    Negative values of a signed map count as zero relevance. Computed in float64.

    Args:
        maps: (B, H, W) float.
        masks: (B, H, W) bool, True on the objects.

    Returns:
        (B,) float64 in [0, 1]; the mask's share of the area for a uniform map. NaN for an empty mask and for
        a map without relevance or with non-finite values.
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
        (B,) float64 in [0, 1]; NaN for an empty mask and for a map of zeros or with non-finite values.
    """
    inside = masks.flatten(1)
    size = inside.sum(dim=1)
    hits = (inside & (pixel_ranks(maps) < size[:, None])).sum(dim=1)
    return (hits.double() / size).masked_fill(~is_ranked(maps), float("nan"))


def pointing_game(
    maps: Tensor, masks: Tensor, *, tolerance: float = 0.0, ties: Literal["any", "first"] = "any"
) -> Tensor:
    """Return whether the most relevant pixel lies on the object: 1 for a hit, 0 for a miss.

    Args:
        maps: (B, H, W) float.
        masks: (B, H, W) bool, True on the objects.
        tolerance: a maximum at most this many pixels (Euclidean) from the object is a hit. The original
            game uses 15.
        ties: if several pixels have the largest value, ``any`` is a hit if any of them hits; with
            ``first`` only the first by index counts.

    Returns:
        (B,) float64, 0 or 1; NaN for an empty mask and for a map of zeros or with non-finite values.
    """
    values, inside = maps.flatten(1), masks.flatten(1)
    if ties == "first":
        points = torch.zeros_like(inside).scatter_(1, values.argmax(dim=1, keepdim=True), value=True)
    else:
        points = values == values.amax(dim=1, keepdim=True)
    near = dilate(masks, tolerance).flatten(1) if tolerance > 0 else inside
    hits = (points & near).any(dim=1).double()
    return hits.masked_fill(~(is_ranked(maps) & inside.any(dim=1)), float("nan"))


def dilate(masks: Tensor, radius: float) -> Tensor:
    """Return which pixels of (B, H, W) bool masks lie at most `radius` pixels from a True one."""
    height, width = masks.shape[-2:]
    reach = min(int(radius), height - 1)
    grown = torch.zeros_like(masks)
    for down in range(-reach, reach + 1):
        across = min(int(math.sqrt(radius**2 - down**2)), width - 1)
        sums = pad(masks.int(), (across + 1, across)).cumsum(dim=2)
        touched = sums[..., 2 * across + 1 :] > sums[..., : -2 * across - 1]
        rows = slice(max(down, 0), height + min(down, 0))
        grown[:, rows] |= touched[:, max(-down, 0) : height + min(-down, 0)]
    return grown
