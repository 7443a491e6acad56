"""Pruning in rounds: the schedule of sparsities, and masks that shrink or may grow back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pruningbench.contract import PruningContext, check_scores
from pruningbench.pruning.allocation import allocate, number_to_prune
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.ties import Ties, ties

Score = Callable[[Mapping[str, Tensor], int], Mapping[str, Tensor]]
"""(masks so far, round from 0) -> scores >= 0 by name."""


def sparsities(sparsity: float, rounds: int) -> list[float]:
    """Return the sparsity after each round: the density falls as density^(k / rounds), k = 1 .. rounds."""
    return [1 - (1 - sparsity) ** (k / rounds) for k in range(1, rounds)] + [sparsity]


def score_in_rounds(
    context: PruningContext, sparsity: float, rounds: int, score: Score, pruner: str, *, revival: bool = False
) -> Masks:
    """Score and prune in rounds, with an exact number of weights after each round.

    Args:
        context: names the prunable parameters and receives progress reports.
        sparsity: final share of pruned weights, in [0, 1).
        rounds: number of rounds, >= 1.
        score: scores the network under the masks so far; no score is negative.
        pruner: name for reports.
        revival: whether a pruned weight may return. If not, pruned weights rank below all others, even those
            that score zero.
    """
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in context.parameters.items()}
    total = sum(mask.numel() for mask in masks.values())
    worst = Ties(0.0, 0.0)
    for number, level in enumerate(sparsities(sparsity, rounds)):
        if number_to_prune(level, total) == 0:
            continue
        context.report(f"{pruner} round {number + 1}/{rounds}")
        scores = check_scores(score(masks, number), context.parameters)
        scores = {name: value.to(masks[name].device) for name, value in scores.items()}
        if not revival:
            scores = {name: value.masked_fill(~masks[name], -1.0) for name, value in scores.items()}
        before, masks = masks, allocate(scores, level)
        worst = max(worst, ties(scores, masks, within=None if revival else before), key=lambda counted: counted.share)
    return Masks(masks, {"sparsity": sparsity, "ties": worst.share, "zeros": worst.zeros})
