"""Optimal Brain Surgeon on batches of blocks: the order of removals, and the remaining weights.

Source: Hassibi and Stork, Second order derivatives for network pruning: Optimal Brain Surgeon (1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pruningbench_hessian.blocks import cholesky

_TINY, _LAST = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max


def joint_update(matrices: Tensor, weights: Tensor, kept: Tensor) -> Tensor:
    """Return the weights that minimise the quadratic with all pruned weights at zero.

    With dw = new - weights, ``dw' F dw / 2`` is minimal where F_KK dw_K = F_KS w_S, for kept K and pruned S.
    The sum of the updates of single removals does not reach this minimum.

    Args:
        matrices: (b, n, n) float64 positive-definite F.
        weights: (b, n) float64.
        kept: (b, n) bool.

    Returns:
        (b, n) float64, exactly zero where not kept.

    Raises:
        PruningBenchError: if a matrix is not positive-definite.

    Source: Singh and Alistarh, WoodFisher (NeurIPS 2020), equation 12 for sets of weights.
    """
    removed = weights.masked_fill(kept, 0)
    pull = (matrices @ removed.unsqueeze(2)).masked_fill(~kept.unsqueeze(2), 0)
    among_kept = matrices * (kept.unsqueeze(2) & kept.unsqueeze(1))
    among_kept.diagonal(dim1=1, dim2=2).masked_fill_(~kept, 1)
    change = torch.cholesky_solve(pull, cholesky(among_kept)).squeeze(2)
    return (weights + change).masked_fill(~kept, 0)


def greedy_removals(inverses: Tensor, weights: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Remove each block's weights one by one, always the cheapest, and update the others.

    Removing q costs ``w_q^2 / (2 [F^-1]_qq)``; w and F^-1 then become those of the quadratic without q. Among
    equal costs the last weight is removed first.

    Args:
        inverses: (b, n, n) float64 F^-1; overwritten.
        weights: (b, n) float64; not changed.
        counted: (b, n) bool, False for padding, which is removed last.

    Returns:
        (b, n) int64 positions in the order of removal, and (b, n) float64 costs of these removals
        (infinite for padding).

    Source: Kuznedelev, Kurtic, Frantar, Alistarh, CAP: Correlation-aware pruning (NeurIPS 2023),
    algorithm 1.
    """
    blocks, n = weights.shape
    left = weights.clone()
    diagonal = inverses.diagonal(dim1=1, dim2=2)
    removed = torch.zeros_like(counted)
    order = torch.empty(blocks, n, dtype=torch.int64, device=weights.device)
    costs = torch.empty_like(left)
    for step in range(n):
        cost = left.square() / (2 * diagonal.clamp_min(_TINY))
        # padding ranks after every weight, and removed weights rank after padding
        ranked = cost.masked_fill(~counted, _LAST).masked_fill(removed, torch.inf)
        chosen = n - 1 - ranked.flip(1).argmin(1, keepdim=True)
        order[:, step : step + 1] = chosen
        costs[:, step : step + 1] = cost.masked_fill(~counted, torch.inf).gather(1, chosen)
        column = inverses.gather(2, chosen.unsqueeze(1).expand(-1, n, 1))
        pivot = column.gather(1, chosen.unsqueeze(2))
        scaled = column / pivot
        left -= (left.gather(1, chosen).unsqueeze(2) * scaled).squeeze(2)
        inverses.baddbmm_(scaled, column.transpose(1, 2), alpha=-1)
        removed.scatter_(1, chosen, True)
        left.masked_fill_(removed, 0)
    return order, costs


def merge_keys(costs: Tensor, merge: Literal["greedy", "cumulative"]) -> Tensor:
    """Return the keys by which the removals of all blocks are merged; they never decrease within a block.

    ``greedy`` is the running maximum: merging by it always takes the cheapest next removal of any block.
    ``cumulative`` is the running sum: the block's total cost up to and including that removal.
    """
    return costs.cummax(1).values if merge == "greedy" else costs.cumsum(1)


def removal_ranks(removals: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Merge the removals of several tensors' blocks into one order.

    Args:
        removals: for each tensor, (b, n) int64 positions in the order of removal, and (b, n) keys that never
            decrease in that order.

    Returns:
        For each tensor, (b, n) float64 ranks of its weights, 0 for the weight removed first of all. Ranks are
        distinct and follow each block's own order; among equal keys the last block comes first.
    """
    keys = torch.cat([key.flip(0).flatten() for _, key in reversed(removals)])
    ranks = torch.empty_like(keys, dtype=torch.float64)
    ranks[keys.argsort(stable=True)] = torch.arange(len(keys), dtype=torch.float64, device=keys.device)
    sizes = [order.numel() for order, _ in reversed(removals)]
    ranks_of_chunks = []
    for (order, _), part in zip(reversed(removals), torch.split(ranks, sizes), strict=True):
        in_order = part.view(order.shape).flip(0)
        ranks_of_chunks.append(torch.empty_like(in_order).scatter_(1, order, in_order))
    return ranks_of_chunks[::-1]
