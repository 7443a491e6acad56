"""Tied scores: how much of a pruning is decided by ties, and what makes scores zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Ties:
    """How much of the decision about which weights to prune was made by the order of equal scores.

    Attributes:
        share: share of the decision, in [0, 1]. The numerator is the smaller of the numbers of kept and pruned weights
            whose score equals the threshold; the denominator is the smaller of the numbers of all kept and all pruned
            weights. 0 if the scores decide, 1 if they say nothing about any kept weight, or about any pruned weight.
        zeros: share of the scores that are exactly zero, in [0, 1].
    """

    share: float
    zeros: float


def ties(
    scores: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    jointly: bool = True,
    within: Mapping[str, Tensor] | None = None,
) -> Ties:
    """Count the ties at the threshold that turned scores into masks.

    Args:
        scores: parameter name -> scores.
        masks: parameter name -> bool tensor of the same shape, True = kept.
        jointly: whether one threshold applied to all parameters; otherwise each has its own.
        within: masks of an earlier round; weights that they prune were not part of this decision.
    """
    pairs = [_decided(scores[name], mask, None if within is None else within[name]) for name, mask in masks.items()]
    groups = [pairs] if jointly else [[pair] for pair in pairs]
    tied = sum(_tied(group) for group in groups)
    kept, pruned = (sum(part[i].numel() for part in pairs) for i in (0, 1))
    zeros = sum(int((part == 0).sum()) for pair in pairs for part in pair)
    return Ties(tied / min(kept, pruned) if min(kept, pruned) else 0.0, zeros / max(kept + pruned, 1))


def _decided(scores: Tensor, mask: Tensor, within: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the scores of the weights kept and of those pruned in this decision."""
    flat, kept = scores.detach().flatten().cpu(), mask.flatten().cpu()
    pruned = ~kept if within is None else ~kept & within.flatten().cpu()
    return flat[kept], flat[pruned]


def _tied(group: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Return the smaller of the numbers of kept and pruned weights whose score is at one threshold."""
    parts = list(group)
    kept = [part for part, _ in parts if part.numel()]
    pruned = [part for _, part in parts if part.numel()]
    if not kept or not pruned:
        return 0
    lowest, highest = min(float(part.min()) for part in kept), max(float(part.max()) for part in pruned)
    if lowest != highest:
        return 0
    return min(sum(int((part == lowest).sum()) for part in side) for side in (kept, pruned))


def zero_norms(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the norms whose scale is zero everywhere, so that neither signal nor gradient passes."""
    return tuple(
        name
        for name, module in network.named_modules()
        if is_norm(module) and bool((module.weight.detach() == 0).all())
    )


def start_norms(network: nn.Module) -> None:
    """Set the scale of every norm to one, in place, if it is zero everywhere."""
    for name in zero_norms(network):
        weight = network.get_submodule(name).weight
        assert isinstance(weight, Tensor)  # noqa: S101 - zero_norms returns only such
        nn.init.ones_(weight)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm, judged by its class name, with its own scale of one number per channel."""
    weight = getattr(module, "weight", None)
    norm = any("Norm" in kind.__name__ for kind in type(module).__mro__)
    return norm and isinstance(weight, Tensor) and weight.ndim == 1 and not weight.is_meta
