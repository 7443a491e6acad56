"""Masks of whole channels: built from removed channels, and converted to a smaller network."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench_structured.embedding import cut_embedding, has_empty_rows
from pruningbench_structured.graph import channel_graph
from pruningbench_structured.groups import ChannelGraph, ChannelGroup
from pruningbench_structured.heads import cut_heads
from pruningbench_structured.outputs import check_same
from pruningbench_structured.skipping import take_out

Removed = Sequence[Tensor]
"""For each group of a `ChannelGraph`, a bool tensor of its removed channels."""


def removal_masks(graph: ChannelGraph, parameters: Mapping[str, Tensor], removed: Removed) -> dict[str, Tensor]:
    """Return the masks of `parameters` for the removed channels: bool on the CPU, True = kept."""
    masks = {name: torch.ones(parameter.shape, dtype=torch.bool) for name, parameter in parameters.items()}
    for (name, dim), dropped in _dropped(graph, removed).items():
        masks[name].index_fill_(dim, dropped.nonzero().flatten(), False)
    return masks


def removal_count(graph: ChannelGraph, parameters: Mapping[str, Tensor], removed: Removed) -> int:
    """Return how many weights `removal_masks` would prune, without building the masks."""
    remaining = {name: dict(enumerate(parameters[name].shape)) for name in parameters}
    for (name, dim), dropped in _dropped(graph, removed).items():
        remaining[name][dim] -= int(dropped.sum())
    return sum(p.numel() - math.prod(remaining[name].values()) for name, p in parameters.items())


def _dropped(graph: ChannelGraph, removed: Removed) -> dict[tuple[str, int], Tensor]:
    """Return for each weight and dimension which entries are removed, over all groups."""
    dropped: dict[tuple[str, int], Tensor] = {}
    for group, gone in zip(graph.groups, removed, strict=True):
        for part in group.parts:
            if part.weight:
                key, drop = (part.name, part.dim), group.drop(part, gone)
                dropped[key] = dropped[key] | drop if key in dropped else drop
    return dropped


def silence(network: nn.Module, graph: ChannelGraph, removed: Removed) -> None:
    """Zero the biases and the norm scales and shifts of removed channels in place, so that they output zero."""
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for group, gone in zip(graph.groups, removed, strict=True):
            for part in group.parts:
                if not part.weight:
                    parameter = parameters[part.name]
                    parameter.masked_fill_(group.drop(part, gone).to(parameter.device), 0)


def shrink(network: nn.Module, masks: Masks, example_inputs: Tensor) -> nn.Module:
    """Return a smaller network without the channels that the masks leave empty; it computes the same function.

    A residual block, or one of its branches, is taken out if the masks prune all of its weights and it then adds no
    more than a constant. A channel is removed if the masks prune everything that belongs to it: its rows and columns
    in all layers that share it. So is an attention head if it can be; its module then has a smaller `num_heads`. So is
    a channel of a vision transformer's embedding; its norms then count the removed channels as zeros.
    Other pruned weights remain as zeros. If the masks prune nothing whole, the result is as large as the network.

    Args:
        network: dense or pruned, with the masks' parameters; it is not modified.
        masks: masks from the pruner `structured` or `blocks`.
        example_inputs: (B, ...) inputs that the network accepts, on its device.

    Returns:
        A new network in eval mode with smaller parameters. Up to rounding, its outputs are those of the masked
        network with the biases and norms of removed channels at zero, and with the other parameters of removed
        blocks at zero if `network` still has weights in them.

    Raises:
        UsageError: if Torch-Pruning is not installed, unless the masks prune whole blocks and nothing else.
        MaskError: if the masks do not fit the network.
        PruningBenchError: if the network cannot be traced, or removing channels changes its outputs.
    """
    smaller = copy.deepcopy(network).eval()
    take_out(smaller, masks, example_inputs)
    names = {name for name, _ in smaller.named_parameters()}
    left = {name: mask for name, mask in masks.items() if name in names}
    if len(left) == len(masks) or not all(bool(mask.all()) for mask in left.values()):
        graph = channel_graph(smaller, example_inputs, frozenset(left), heads=True, embedding=has_empty_rows(left))
        smaller = without(smaller, graph, [_empty(group, left) for group in graph.groups], example_inputs)
    sources = dict(network.named_parameters())
    for name, target in smaller.named_parameters():
        target.requires_grad_(sources[name].requires_grad if name in sources else True)
    return smaller


def zero_masks(network: nn.Module) -> Masks:
    """Return masks that prune the zeros of a network's prunable weights, for `shrink`."""
    return Masks({name: (p.detach() != 0).cpu() for name, p in prunable_parameters(network).items()})


def without(masked: nn.Module, graph: ChannelGraph, removed: Removed, inputs: Tensor) -> nn.Module:
    """Return the traced network of `graph` without the removed channels, and silence them in `masked`.

    Raises:
        PruningBenchError: if it does not run, or its outputs differ from those of `masked`.
    """
    silence(masked, graph, removed)
    with torch.no_grad():
        expected = masked(inputs)
    graph.network.load_state_dict(masked.state_dict())
    modules = dict(graph.network.named_modules())
    last = sorted(zip(graph.groups, removed, strict=True), key=lambda pair: pair[0].embedding)
    for group, gone in last:  # the library's graph knows nothing of the embedding's norms
        positions = sorted(p for channel in gone.nonzero().flatten().tolist() for p in group.channels[channel])
        if positions and group.attention is not None:
            cut_heads(graph.network, group, gone)
        elif positions and group.embedding:
            cut_embedding(graph.network, group, gone)
        elif positions:
            root = modules[group.name]
            cut = graph.dependencies.get_pruner_of_module(root).prune_out_channels
            graph.dependencies.get_pruning_group(root, cut, positions).prune()
    check_same(expected, graph.network, inputs)
    return graph.network


def _empty(group: ChannelGroup, masks: Mapping[str, Tensor]) -> Tensor:
    """Return which channels of a group have no weight left in any layer."""
    empty = torch.ones(len(group.channels), dtype=torch.bool)
    for part in group.parts:
        if part.weight:
            mask = masks[part.name]
            alive = mask.movedim(part.dim, 0).flatten(1).any(1)
            empty[part.owner[alive & (part.owner >= 0)]] = False
    if empty.all():
        empty[0] = False  # a layer needs one channel, even of zeros
    return empty
