"""Which channels of a network belong together, and which of them can be removed.

The dependencies come from the Torch-Pruning library (DepGraph). This module keeps them in plain form: for each group,
which entries of which parameters belong to its channels. Removing a channel removes these entries in all layers.

Source: Fang, Ma, Song, Mi, Wang, DepGraph: Towards any structural pruning (CVPR 2023).
"""

from __future__ import annotations

import copy
import re
import warnings
from collections import Counter
from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from pruningbench.contract import PruningBenchError, UsageError
from pruningbench_structured.embedding import ROOT, embedding_channels
from pruningbench_structured.groups import ChannelGraph, ChannelGroup, Part, Structure
from pruningbench_structured.heads import attention_heads

MISSING = "structured pruning needs the Torch-Pruning library: pip install 'pruningbench[structured]'"

_CHANNELWISE = re.compile(
    r"""(leaky|p|r|c)?relu6?|threshold|hardtanh|r?elu|gelu|silu|mish|hardswish|hardsigmoid|sigmoid|tanh|softplus
    |add|sub|rsub|mul|div|neg|pow|sqrt|abs|clamp\w*|\w*pool[123]?d\w*|mean|sum|\w*pad\w*|upsample\w+|\w*dropout|bernoulli
    |\w*batchnorm\w*|(add)?mm|permute|transpose|t|(un)?squeeze|clone|tocopy|alias|copyslices""",
    re.VERBOSE,
)
"""Operations, named by their gradients, that do not mix channels or are part of a linear layer."""


def installed() -> bool:
    """Whether the library is installed."""
    return find_spec("torch_pruning") is not None


def library() -> Any:
    """Return the module ``torch_pruning``.

    Raises:
        UsageError: if it is not installed.
    """
    if not installed():
        raise UsageError(MISSING)
    return import_module("torch_pruning")


def channel_graph(
    network: nn.Module, example: Tensor, prunable: Collection[str], *, heads: bool = False, embedding: bool = False
) -> ChannelGraph:
    """Trace a copy of a network in eval mode and return the groups of channels that can be removed.

    Args:
        network: any module with one input; it is not modified.
        example: (B, ...) input; its first sample is used.
        prunable: names of the weights that may be cut; groups that involve other weights are left out.
        heads: whether attention heads are groups of channels, too.
        embedding: whether the channels of a vision transformer's embedding are a group, too.

    Raises:
        UsageError: if the library is not installed.
        PruningBenchError: if the library cannot trace the network.
    """
    library()
    try:
        network = copy.deepcopy(network).eval()
    except RuntimeError as error:  # computed tensors, such as those of torch.nn.utils.prune
        reason = str(error).partition("\n")[0]
        raise PruningBenchError(f"structured pruning cannot copy this {type(network).__name__}: {reason}") from error
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
        parameter.grad = None
    dependencies = import_module("torch_pruning").DependencyGraph()
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about parameters outside layers: their groups are left out below
            dependencies.build_dependency(network, example_inputs=example[:1], verbose=False)
            groups_found = list(dependencies.get_all_groups())
    except (Exception, SystemExit) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise PruningBenchError(f"Torch-Pruning cannot trace this {type(network).__name__}: {reason}") from error
    names = {module: name for name, module in network.named_modules()}
    groups: dict[str, ChannelGroup] = {}
    skipped: dict[str, str] = {}
    reader = _Reader(network, dependencies, frozenset(prunable))
    for group in groups_found:
        root = names[group[0].dep.target.module]
        obstacle = reader.obstacle(group)
        if obstacle:
            skipped[root] = obstacle
        else:
            groups[root] = reader.read(root, group)
    if heads:
        found, refused = attention_heads(network, example[:1], prunable)
        skipped.update({name: reason for name, reason in refused.items() if name not in groups})
        for attention in (group for group in found if group.name not in groups):
            groups[attention.name] = attention
            skipped.pop(attention.name, None)
    if embedding:
        channels, reason = embedding_channels(network, example[:1], prunable)
        if channels is not None:
            groups[ROOT] = channels
            skipped.pop(ROOT, None)
        elif ROOT not in groups:
            skipped[ROOT] = reason
    order = {name: i for i, name in enumerate(names.values())}
    chosen = sorted((g for g in groups.values() if len(g.channels) > 1), key=lambda g: order[g.name])
    return ChannelGraph(network, tuple(chosen), skipped, dependencies)


class _Reader:
    """Convert the library's groups to plain ones."""

    def __init__(self, network: nn.Module, dependencies: Any, prunable: frozenset[str]) -> None:
        self._dependencies, self._prunable = dependencies, prunable
        self._kinds = import_module("torch_pruning.ops").OPTYPE
        self._names: dict[Any, str] = {parameter: name for name, parameter in network.named_parameters()}
        self._modules = {module: name for name, module in network.named_modules()}
        uses = Counter(p for module in network.modules() for p in module.parameters(recurse=False))
        self._tied = {parameter for parameter, count in uses.items() if count > 1}

    def obstacle(self, group: Any) -> str | None:
        """Return why a group's channels cannot be removed, or cannot be zeroed with the same result, or None."""
        kinds = self._kinds
        for dep, _ in group:
            module, kind = dep.target.module, dep.target.type
            name = self._modules.get(module, "")
            if kind == kinds.OUTPUT or (self._cuts_outputs(dep) and not dep.target.outputs):
                return "its channels are the network's output"
            if kind in (kinds.LN, kinds.GN, kinds.IN):
                return f"{name} ({type(module).__name__}) mixes channels or shifts those that are zero"
            if kind == kinds.PARAMETER:
                return "a parameter outside the layers is added to its channels"
            if kind == kinds.ELEMENTWISE:
                operation = re.sub(r".*\(|Backward\d*\)?$|\)$", "", str(module))
                if not _CHANNELWISE.fullmatch(operation.lower()):
                    return f"{operation} may mix its channels"
            elif kind == kinds.DEPTHWISE_CONV and module.in_channels != module.out_channels:
                return f"{name} has different numbers of inputs and outputs per group"
            elif kind not in (
                kinds.CONV, kinds.DEPTHWISE_CONV, kinds.LINEAR, kinds.BN, kinds.CONCAT, kinds.RESHAPE, kinds.PRELU
            ):  # fmt: skip
                return f"{name or kind.name.lower()} cuts or mixes its channels"
            if getattr(module, "transposed", False) and module.groups > 1:
                return f"{name} is a grouped transposed convolution"
            weight = getattr(module, "weight", None)
            if weight is not None and weight not in self._names:
                return f"the weights of {name} are computed from other parameters"
            if weight in self._tied:
                return f"the weights of {name} are shared"
            if kind in _maps(kinds) and self._names[weight] not in self._prunable:
                return f"{self._names[weight]} is outside the scope"
        return None

    def _cuts_outputs(self, dep: Any) -> bool:
        if dep.target.type not in _maps(self._kinds):
            return True
        return str(dep.handler.__name__) == "prune_out_channels"

    def read(self, root: str, group: Any) -> ChannelGroup:
        """Return a group's channels and the parameter entries that they own."""
        width = len(group[0].idxs)
        channel = _Merger(width)
        for item in group:
            module = item.dep.target.module
            if item.dep.target.type == self._kinds.CONV and module.groups > 1:
                channel.merge(item.idxs, item.root_idxs, self._width(item.dep) // module.groups)
        channels = channel.classes()
        channel_of_position = torch.empty(width, dtype=torch.int64)
        for number, positions in enumerate(channels):
            channel_of_position[list(positions)] = number
        parts: dict[tuple[str, int], Part] = {}
        for item in group:
            for part in self._parts(item.dep, torch.tensor(item.idxs), channel_of_position[list(item.root_idxs)]):
                parts[part.name, part.dim] = part
        return ChannelGroup(root, channels, tuple(parts.values()), structure=self._structure(group))

    def _structure(self, group: Any) -> Structure:
        """Return the dependencies of a group, with its layers numbered in the order of the traversal.

        A layer whose outputs and inputs are both cut is two nodes. Equal results mean that the numbers are an
        isomorphism of the two graphs that keeps the types of layers.
        """
        numbers: dict[tuple[Any, bool], int] = {}

        def node(owner: Any, cut: Any) -> tuple[int, str, bool]:
            outputs = bool(self._dependencies.is_out_channel_pruning_fn(cut))
            return numbers.setdefault((owner, outputs), len(numbers)), type(owner.module).__name__, outputs

        return tuple((*node(dep.source, dep.trigger), *node(dep.target, dep.handler)) for dep, _ in group)

    def _width(self, dep: Any) -> int:
        module = dep.target.module
        return int(module.out_channels if self._cuts_outputs(dep) else module.in_channels)

    def _parts(self, dep: Any, entries: Tensor, owners: Tensor) -> list[Part]:
        module: Any = dep.target.module
        kind = dep.target.type
        if kind not in (*_maps(self._kinds), self._kinds.BN, self._kinds.PRELU):
            return []
        weight, bias = module.weight, getattr(module, "bias", None)
        if kind not in _maps(self._kinds):
            present = [p for p in (weight, bias) if p is not None and p.numel() > 1]
            return [self._part(p, 0, entries, owners, weight=False) for p in present]
        outputs, transposed = self._cuts_outputs(dep), getattr(module, "transposed", False)
        depthwise = kind == self._kinds.DEPTHWISE_CONV
        dim = 0 if depthwise else int(outputs == transposed)
        if not outputs and not depthwise and getattr(module, "groups", 1) > 1:
            entries = entries % weight.shape[dim]  # the same inputs of each group
        parts = [self._part(weight, dim, entries, owners, weight=True)]
        if bias is not None and (outputs or depthwise):
            parts.append(self._part(bias, 0, entries, owners, weight=False))
        return parts

    def _part(self, parameter: Tensor, dim: int, entries: Tensor, owners: Tensor, *, weight: bool) -> Part:
        owner = torch.full((parameter.shape[dim],), -1, dtype=torch.int64)
        owner[entries] = owners
        return Part(self._names[parameter], dim, owner, weight)


def _maps(kinds: Any) -> tuple[Any, ...]:
    return (kinds.CONV, kinds.DEPTHWISE_CONV, kinds.LINEAR)


class _Merger:
    """Union-find of positions that a grouped convolution forces to be removed together."""

    def __init__(self, width: int) -> None:
        self._parent = list(range(width))

    def _root(self, position: int) -> int:
        while self._parent[position] != position:
            position = self._parent[position]
        return position

    def merge(self, entries: list[int], positions: list[int], period: int) -> None:
        """Join positions whose entries are equal modulo `period`."""
        first: dict[int, int] = {}
        for entry, position in zip(entries, positions, strict=True):
            a, b = self._root(first.setdefault(entry % period, position)), self._root(position)
            self._parent[max(a, b)] = min(a, b)

    def classes(self) -> tuple[tuple[int, ...], ...]:
        """Return the classes of joined positions, ordered by their first position."""
        members_by_class: dict[int, list[int]] = {}
        for position in range(len(self._parent)):
            members_by_class.setdefault(self._root(position), []).append(position)
        return tuple(tuple(members) for members in members_by_class.values())
