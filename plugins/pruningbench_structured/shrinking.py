"""Masks of whole channels: built from removed channels, and converted to a smaller network."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pruningbench.contract import PruningBenchError
from pruningbench.pruning.masks import Masks
from pruningbench_structured.graph import channel_graph
from pruningbench_structured.groups import ChannelGraph, ChannelGroup
from pruningbench_structured.heads import cut_heads

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

    A channel is removed if the masks prune everything that belongs to it: its rows and columns in all layers
    that share it. So is an attention head if it can be; its module then has a smaller `num_heads`. Other pruned
    weights remain as zeros. If the masks prune no whole channel, the result is as large as the network.

    Args:
        network: dense or pruned, with the masks' parameters; it is not modified.
        masks: masks from the pruner `structured`.
        example_inputs: (B, ...) inputs that the network accepts, on its device.

    Returns:
        A new network in eval mode with smaller parameters. Up to rounding, its outputs are those of the masked
        network with the biases and norms of removed channels at zero.

    Raises:
        UsageError: if Torch-Pruning is not installed.
        MaskError: if the masks do not fit the network.
        PruningBenchError: if the network cannot be traced, or removing channels changes its outputs.
    """
    masked = copy.deepcopy(network).eval()
    masks.apply(masked)
    graph = channel_graph(masked, example_inputs, frozenset(masks), heads=True)
    smaller = without(masked, graph, [_empty(group, masks) for group in graph.groups], example_inputs)
    for target, source in zip(smaller.parameters(), network.parameters(), strict=True):
        target.requires_grad_(source.requires_grad)
    return smaller


def without(masked: nn.Module, graph: ChannelGraph, removed: Removed, inputs: Tensor) -> nn.Module:
    """Return the traced network of `graph` without the removed channels, and silence them in `masked`.

    Raises:
        PruningBenchError: if it does not run, or its outputs differ from those of `masked`.
    """
    silence(masked, graph, removed)
    graph.network.load_state_dict(masked.state_dict())
    modules = dict(graph.network.named_modules())
    for group, gone in zip(graph.groups, removed, strict=True):
        positions = sorted(p for channel in gone.nonzero().flatten().tolist() for p in group.channels[channel])
        if positions and group.attention is not None:
            cut_heads(graph.network, group, gone)
        elif positions:
            root = modules[group.name]
            cut = graph.dependencies.get_pruner_of_module(root).prune_out_channels
            graph.dependencies.get_pruning_group(root, cut, positions).prune()
    _check_same(masked, graph.network, inputs)
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


def _check_same(masked: nn.Module, smaller: nn.Module, inputs: Tensor) -> None:
    kind = type(masked).__name__
    with torch.no_grad():
        expected = masked(inputs)
        try:
            actual = smaller(inputs)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).partition("\n")[0]
            raise PruningBenchError(
                f"structured pruning: {kind} does not run with fewer channels ({reason}): exclude layers in the scope"
            ) from error
    for a, b in zip(_tensors(expected), _tensors(actual), strict=True):
        off = float((a - b).abs().max()) if a.shape == b.shape else float("inf")
        if not off <= 1e-3 * max(float(a.abs().max()), 1e-3):
            raise PruningBenchError(
                f"structured pruning: {kind} gives other outputs without the channels than with zeros in their place "
                f"(largest difference {off:.2g}): exclude the layers that mix channels in the scope"
            )


def _tensors(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]
