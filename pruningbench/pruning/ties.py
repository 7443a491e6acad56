"""Scores that do not rank: how much of a pruning is decided by ties, and what makes scores zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Ties:
    """How much of a decision which weights to prune was made by the order of equal scores.

    Attributes:
        share: of the decision, in [0, 1]: of the weights whose score is exactly that of the threshold, the smaller
            number of those kept and those pruned, over the smaller number of all kept and all pruned. 0 where the
            scores decide, 1 where they say nothing about any weight kept, or about any pruned.
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
        jointly: whether one threshold decided over all parameters; else each has its own.
        within: masks of an earlier round: what these prune was not decided now.
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
    lost = ~kept if within is None else ~kept & within.flatten().cpu()
    return flat[kept], flat[lost]


def _tied(group: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Return the smaller number of kept and of pruned weights with the score at one threshold."""
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
    """Return the names of the norms whose scale is zero everywhere, so that no signal and no gradient passes them."""
    return tuple(
        name
        for name, module in network.named_modules()
        if is_norm(module) and bool((module.weight.detach() == 0).all())
    )


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm with a scale of its own: one number per channel, by the name of its class."""
    weight = getattr(module, "weight", None)
    norm = any("Norm" in kind.__name__ for kind in type(module).__mro__)
    return norm and isinstance(weight, Tensor) and weight.ndim == 1 and not weight.is_meta
