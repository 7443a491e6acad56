"""Hidden units and heads of a vision transformer's blocks in one order of removal, from which any sparsity follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruningbench.contract import UsageError
from pruningbench.pruning.allocation import number_to_prune
from pruningbench_structured.graph import channel_graph
from pruningbench_structured.groups import ChannelGraph, ChannelGroup
from pruningbench_structured.heads import cut_heads, cut_parts
from pruningbench_structured.order import removals

Removed = Sequence[Tensor]
"""For each group of `Units`, first the MLPs, a bool tensor of its removed units."""
Order = tuple[list[tuple[int, int]], list[tuple[int, int]]]
"""The (group, unit) pairs of the MLPs, and those of the heads, in the order of their removal."""


@dataclass(frozen=True)
class Units:
    """What can be removed from a vision transformer's blocks.

    Attributes:
        mlps: the hidden units of each MLP, in module order.
        heads: the heads of each attention module, in module order.
        skipped: layer -> why it has none.
    """

    mlps: tuple[ChannelGroup, ...]
    heads: tuple[ChannelGroup, ...]
    skipped: Mapping[str, str]

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """All groups, first the MLPs."""
        return self.mlps + self.heads


def find_units(network: nn.Module, images: Tensor, prunable: Mapping[str, Tensor]) -> Units:
    """Return the hidden units and heads of a network's transformer blocks.

    A block is the module that holds an attention module; its MLP is a group of channels between its linear maps.

    Args:
        network: in eval mode; it is not modified.
        images: (B, ...) inputs that it accepts.
        prunable: the weights that may be cut, by name.

    Raises:
        UsageError: if there are no heads or no such MLPs, or without the library Torch-Pruning.
        PruningBenchError: if the network cannot be traced.
    """
    graph = channel_graph(network, images, frozenset(prunable), heads=True)
    heads = tuple(group for group in graph.groups if group.attention is not None)
    blocks = {_parent(group.attention or "") for group in heads}
    mlps = tuple(group for group in graph.groups if _is_mlp(graph, group) and _within(group.name, blocks))
    if not heads or not mlps:
        related = sorted(n for n in graph.skipped if n.endswith("qkv") or _within(n, blocks))
        reason = "".join(f"; {name}: {graph.skipped[name]}" for name in related[:1])
        raise UsageError(
            f"pruner 'snapvit' cannot find {'attention heads' if not heads else 'MLPs beside the attention'} to remove "
            f"in {type(network).__name__}{reason}"
        )
    return Units(mlps, heads, graph.skipped)


def _is_mlp(graph: ChannelGraph, group: ChannelGroup) -> bool:
    layers = [part.name.rpartition(".")[0] for part in group.parts]
    return group.attention is None and all(isinstance(graph.network.get_submodule(n), nn.Linear) for n in layers)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _within(name: str, blocks: set[str]) -> bool:
    return any(name.startswith(f"{block}.") for block in blocks)


def raw_scores(units: Units, gradients: Mapping[str, Tensor]) -> list[Tensor]:
    """Return each group's scores, (units,) float64 >= 0: the mean squared gradient of the weights that write a unit.

    Of an MLP's hidden unit, these are its rows of the first linear map (in a gated one, of the map that names the
    group); of a head, its rows of the projection to values.

    Args:
        units: the groups.
        gradients: gradients of the weights of the groups' layers, ``NAME.weight`` -> tensor.
    """
    scores = []
    for group in units.groups:
        rows = gradients[f"{group.name}.weight"].square().mean(1).cpu()
        places = torch.tensor(group.channels)
        if group.attention is not None:  # queries, keys and values, a third each
            places = places[:, 2 * places.shape[1] // 3 :]
        scores.append(rows[places].mean(1))
    return scores


def weighted(units: Units, scores: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
    """Return the scores times the absolute weights: one for each MLP, then one for each head of each module."""
    sizes = [1] * len(units.mlps) + [len(group.channels) for group in units.heads]
    return [score * weight for score, weight in zip(scores, torch.split(weights.abs(), sizes), strict=True)]


def removal_order(units: Units, scores: Sequence[Tensor], floor: float, head_floor: float) -> Order:
    """Return the order of removal of hidden units, and that of heads: the lowest score over all blocks goes first.

    Of each block, the highest share `floor` of the units and `head_floor` of the heads are not in it, and one at least.
    """
    first = len(units.mlps)
    heads = removals(scores[first:], "global", head_floor)
    return removals(scores[:first], "global", floor), [(first + group, head) for group, head in heads]


def removed_at(units: Units, order: Order, share: float, lag: float) -> Removed:
    """Return what is removed at a share of the hidden units, in [0, 1), and that share less `lag` of the heads."""
    gone = [torch.zeros(len(group.channels), dtype=torch.bool) for group in units.groups]
    totals = [sum(len(group.channels) for group in groups) for groups in (units.mlps, units.heads)]
    for pairs, total, part in zip(order, totals, (share, max(share - lag, 0.0)), strict=True):
        for group, unit in pairs[: int(round(total * part, 9))]:  # 72 (.65 - .15) is 36, not 35.99...
            gone[group][unit] = True
    return gone


def without_units(network: nn.Module, units: Units, removed: Removed) -> None:
    """Remove units from a network in place, so that its maps become smaller."""
    for group, gone in zip(units.groups, removed, strict=True):
        if gone.any():
            (cut_parts if group.attention is None else cut_heads)(network, group, gone)


def ranks(units: Units, order: Order, lag: float, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the place of each weight's unit in one order of removal, float32 whole numbers from 1 on.

    The share of removed heads follows that of removed hidden units, less `lag`: the i-th of N hidden units goes at the
    share i / N, and the j-th of H heads at j / H + lag. Weights that are never removed have the place after the last.
    """
    totals = [sum(len(group.channels) for group in groups) for groups in (units.mlps, units.heads)]
    delays = (0.0, lag)
    keyed = [
        (round((number + 1) / total + delay, 12), kind, pair)
        for kind, (pairs, total, delay) in enumerate(zip(order, totals, delays, strict=True))
        for number, pair in enumerate(pairs)
    ]
    places = [torch.full((len(group.channels),), float(len(keyed) + 1)) for group in units.groups]
    for place, (_, _, (group, unit)) in enumerate(sorted(keyed, key=lambda key: key[:2]), 1):
        places[group][unit] = place
    found = {name: torch.full(parameter.shape, float(len(keyed) + 1)) for name, parameter in parameters.items()}
    for number, own in enumerate(places):
        for part in units.groups[number].parts:
            if part.weight:
                target = found[part.name].movedim(part.dim, 0)
                owned = part.owner >= 0
                target[owned] = own[part.owner[owned]].view(-1, *[1] * (target.ndim - 1)).expand_as(target[owned])
    return {name: rank.to(parameters[name].device) for name, rank in found.items()}


def masks_at(scores: Mapping[str, Tensor], sparsity: float) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Return the masks of the first units in the order that prune closest to a sparsity, and how many units they are.

    Args:
        scores: what `ranks` returns.
        sparsity: share of all weights, in [0, 1); of two equally close numbers of units the smaller is taken.

    Returns:
        The masks, bool on the CPU, True = kept; and layer -> numbers of its removed and of all its units.

    Raises:
        UsageError: if the order ends before.
    """
    whole = {name: score.cpu().long() for name, score in scores.items()}
    last = max(int(rank.max()) for rank in whole.values())
    counts = {name: torch.bincount(rank.flatten(), minlength=last + 1) for name, rank in whole.items()}
    total = sum(rank.numel() for rank in whole.values())
    pruned = torch.stack(list(counts.values())).sum(0)[:last].cumsum(0)  # by all units of a place and before
    requested = number_to_prune(sparsity, total)
    if not last or int(pruned[-1]) < requested:
        most = int(pruned[-1]) / total if last else 0.0
        raise UsageError(
            f"pruner 'snapvit' reaches at most sparsity {most:.3f} on this network, but {sparsity:g} was requested: "
            "request less, or lower `floor` and `head_floor`"
        )
    place = int((pruned - requested).abs().argmin())
    removed: dict[str, list[int]] = {}
    seen: set[int] = set()
    for name, count in counts.items():
        ends = count[:last].nonzero().flatten()
        if len(ends) and int(ends[-1]) not in seen:  # the second map of the same units says the same
            seen.add(int(ends[-1]))
            size = int(count[ends[-1]])  # of one unit; all are of one size
            gone = int(count[: place + 1].sum()) // size
            removed[name.removesuffix(".weight")] = [gone, whole[name].numel() // size]
    return {name: rank > place for name, rank in whole.items()}, removed
