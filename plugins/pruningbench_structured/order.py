"""In which order channels are removed, and how many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from pruningbench_structured.groups import ChannelGraph
from pruningbench_structured.shrinking import removal_count


def removals(
    scores: Sequence[Tensor],
    allocation: Literal["global", "uniform", "isomorphic"],
    floor: float,
    structures: Sequence[Hashable] | None = None,
) -> list[tuple[int, int]]:
    """Return (group, channel) pairs in the order of removal.

    Args:
        scores: scores of each group's channels, higher = keep; among equal scores the last is removed first.
        allocation: global (lowest score of all first), uniform (all groups lose the same share) or isomorphic (groups
            of equal structure are ranked together, lowest score first, and each such class loses the same share).
        floor: share of each group's channels that is never removed; one channel always remains.
        structures: the structure of each group, for isomorphic; None if all differ.
    """
    if allocation == "isomorphic":
        classes: list[Hashable] = list(structures or range(len(scores)))
    else:
        classes = [None if allocation == "global" else number for number in range(len(scores))]
    lowest_first: dict[Hashable, list[tuple[float, int, int]]] = {}
    sizes: Counter[Hashable] = Counter()
    for number, values in enumerate(scores):
        order = (len(values) - 1 - values.flip(0).argsort(stable=True)).tolist()
        most = len(values) - max(1, round(floor * len(values)))
        ranked = lowest_first.setdefault(classes[number], [])
        ranked += [(float(values[channel]), -number, -channel) for channel in order[:most]]
        sizes[classes[number]] += len(values)
    keyed = [
        (value if allocation == "global" else (rank + 1) / sizes[name], number, channel)
        for name, ranked in lowest_first.items()
        for rank, (value, number, channel) in enumerate(sorted(ranked))
    ]
    return [(-number, -channel) for _, number, channel in sorted(keyed)]


def nearest(
    graph: ChannelGraph, parameters: Mapping[str, Tensor], sequence: Sequence[tuple[int, int]], requested: int
) -> tuple[list[Tensor], int]:
    """Return the removed channels of each group that prune closest to `requested` weights, and the possible maximum.

    The number of pruned weights grows with each removal, so bisection finds the number of removals; of two equally
    close numbers the smaller is taken.
    """

    def removed(count: int) -> list[Tensor]:
        gone = [torch.zeros(len(group.channels), dtype=torch.bool) for group in graph.groups]
        for number, channel in sequence[:count]:
            gone[number][channel] = True
        return gone

    def pruned(count: int) -> int:
        return removal_count(graph, parameters, removed(count))

    low, high = 0, len(sequence)
    most = pruned(high)
    if most <= requested:
        return removed(high), most
    while high - low > 1:  # pruned(low) <= asked < pruned(high)
        middle = (low + high) // 2
        low, high = (middle, high) if pruned(middle) <= requested else (low, middle)
    return removed(low if requested - pruned(low) <= pruned(high) - requested else high), most
