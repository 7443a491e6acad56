"""How a sparsity over all prunable weights is distributed among the layers.

`global` applies one threshold to all layers; the others first fix the number of weights of each layer.
All of them prune exactly ``round(sparsity * total)`` weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from pruningbench.pruning.top_k import keep_highest

Allocation = Literal["global", "uniform", "uniform-plus", "erk"]
LAYERWISE: tuple[Allocation, ...] = ("uniform", "uniform-plus", "erk")


def number_to_prune(sparsity: float, total: int) -> int:
    """Return ``round(sparsity * total)``, the number of weights that a sparsity prunes.

    Raises:
        ValueError: for a sparsity outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must lie in [0, 1), got {sparsity}")
    return round(sparsity * total)


def allocate(scores: Mapping[str, Tensor], sparsity: float, allocation: Allocation = "global") -> dict[str, Tensor]:
    """Turn scores into masks of an exact overall sparsity.

    Args:
        scores: parameter name -> float tensor, higher = keep; the order of the mapping breaks ties.
        sparsity: share of the scored weights to prune, in [0, 1).
        allocation: ``global`` (one threshold), ``uniform`` (the same sparsity in each tensor),
            ``uniform-plus`` (Gale et al. 2019: first convolution dense, last linear map at most 80 %
            sparse), ``erk`` (Evci et al. 2020, RigL: density of a tensor proportional to
            sum(shape) / prod(shape), those above 1 made dense and the rest rescaled).

    Returns:
        Parameter name -> bool tensor, True = kept, in the order of `scores`.
    """
    total = sum(score.numel() for score in scores.values())
    prune = number_to_prune(sparsity, total)
    if allocation == "global":
        return dict(zip(scores, keep_highest(list(scores.values()), prune), strict=True))
    keep = layer_keep_counts({name: tuple(s.shape) for name, s in scores.items()}, sparsity, allocation)
    return {name: keep_highest([s], s.numel() - keep[name])[0] for name, s in scores.items()}


def layer_densities(shapes: Mapping[str, tuple[int, ...]], sparsity: float, allocation: Allocation) -> dict[str, float]:
    """Return the density of each layer, in [0, 1], before rounding to whole weights."""
    number_to_prune(sparsity, 1)  # rejects a sparsity out of range
    weights = {name: float(torch.Size(shape).numel()) for name, shape in shapes.items()}
    names = list(shapes)
    if allocation == "uniform":
        return dict.fromkeys(names, 1 - sparsity)
    if allocation == "uniform-plus":
        floor = dict.fromkeys(names, 0.0)
        if len(shapes[names[0]]) > 2:  # a first convolution stays dense
            floor[names[0]] = 1.0
        if len(shapes[names[-1]]) == 2:  # the last linear map keeps at least a fifth
            floor[names[-1]] = max(floor[names[-1]], 0.2)
        # a high sparsity may leave less than the floors ask for: scale them down to fit
        guaranteed = sum(floor[name] * weights[name] for name in names)
        scale = min(1.0, (1 - sparsity) * sum(weights.values()) / guaranteed) if guaranteed else 1.0
        floor = {name: scale * share for name, share in floor.items()}
        return _water_fill(dict.fromkeys(names, 1.0), weights, 1 - sparsity, floor)
    if allocation == "erk":
        raw = {name: sum(shape) / weights[name] for name, shape in shapes.items()}
        return _water_fill(raw, weights, 1 - sparsity, dict.fromkeys(names, 0.0))
    raise ValueError(f"{allocation!r} does not fix the number of weights per layer")


def _water_fill(
    raw: Mapping[str, float], weights: Mapping[str, float], density: float, floor: Mapping[str, float]
) -> dict[str, float]:
    """Scale `raw` by one factor so that the weighted mean is `density`, with each layer in [floor, 1].

    Layers that the factor would push out of their bounds are fixed at the bound, and the remainder is
    distributed again among the rest, until no layer is out of bounds.
    """
    total = sum(weights.values())
    fixed: dict[str, float] = {}
    while True:
        free = [name for name in raw if name not in fixed]
        left = density * total - sum(fixed[name] * weights[name] for name in fixed)
        if not free:
            return {name: fixed[name] for name in raw}
        factor = max(left, 0.0) / sum(raw[name] * weights[name] for name in free)
        over = [name for name in free if factor * raw[name] > 1]
        under = [name for name in free if factor * raw[name] < floor[name]]
        if not over and not under:
            return {name: fixed.get(name, factor * raw[name]) for name in raw}
        # fix one side at a time: what one side frees or takes may bring the other back within bounds
        fixed.update(dict.fromkeys(over, 1.0) if over else {name: floor[name] for name in under})


def layer_keep_counts(shapes: Mapping[str, tuple[int, ...]], sparsity: float, allocation: Allocation) -> dict[str, int]:
    """Return how many weights each layer keeps; they sum to total - round(sparsity * total) exactly.

    Fractions are rounded by largest remainder, ties to the earlier layer.
    """
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    total = sum(sizes.values())
    target = total - number_to_prune(sparsity, total)
    densities = layer_densities(shapes, sparsity, allocation)
    exact = {name: densities[name] * sizes[name] for name in sizes}
    keep = {name: min(int(exact[name]), sizes[name]) for name in sizes}
    order = sorted(sizes, key=lambda name: keep[name] - exact[name])
    missing = target - sum(keep.values())
    while missing:
        moved = 0
        for name in order if missing > 0 else reversed(order):
            step = 1 if missing > 0 else -1
            if missing and 0 <= keep[name] + step <= sizes[name]:
                keep[name] += step
                missing -= step
                moved += 1
        if not moved:  # pragma: no cover - target lies in [0, total], so some layer can always move
            raise AssertionError("no layer has room for the remaining weights")
    return keep
