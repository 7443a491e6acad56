"""Attention heads as units that can be removed: what they own, and attention modules with fewer of them.

A module is taken for multi-head self-attention by what it has: a linear map `qkv` from tokens to the queries, keys and
values of all heads, in this order, a linear map `proj` of the joined heads, and their number `num_heads`. Whether its
forward pass agrees is tried out: without one head it has to compute the same as with zeros in that head's place.

Source: Vaswani et al., Attention is all you need (NeurIPS 2017), section 3.2.2.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pruningbench_structured.calls import Call, recorded_calls
from pruningbench_structured.groups import ChannelGroup, Part, Structure


def attention_heads(
    network: nn.Module, images: Tensor, prunable: Collection[str]
) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Return a group of heads for each attention module of a network, and why other attention modules have none.

    Args:
        network: in eval mode; it is left as it was.
        images: (B, ...) inputs that it accepts.
        prunable: names of the weights that may be cut.

    Returns:
        The groups, named by their `qkv` layers; and the layer -> reason of those that were left out.
    """
    found = {name: module for name, module in network.named_modules() if is_attention(module)}
    calls = recorded_calls(network, images, found.values())
    uses = Counter(parameter for module in network.modules() for parameter in module.parameters(recurse=False))
    groups, refused = [], {}
    for path, attention in found.items():
        prefix = f"{path}." if path else ""
        own = dict(attention.named_parameters())
        local = _heads_of(attention)
        parts = tuple(replace(part, name=prefix + part.name) for part in local.parts)
        outside = [part.name for part in parts if part.weight and part.name not in prunable]
        if any(uses[own[part.name]] > 1 for part in local.parts):
            refused[f"{prefix}qkv"] = "its weights are shared"
        elif outside:
            refused[f"{prefix}qkv"] = f"{outside[0]} is outside the scope"
        elif problem := _problem(attention, local, calls):
            refused[f"{prefix}qkv"] = f"{path or type(attention).__name__} {problem}"
        else:
            groups.append(replace(local, name=f"{prefix}qkv", attention=path, parts=parts))
    return groups, refused


def cut_heads(network: nn.Module, group: ChannelGroup, removed: Tensor) -> None:
    """Remove heads from an attention module in place, so that its maps and its number of heads become smaller.

    Args:
        network: has the module.
        group: the module's heads, from `attention_heads`.
        removed: (heads,) bool, not all True.
    """
    attention: Any = network.get_submodule(group.attention or "")
    cut_parts(network, group, removed)
    attention.num_heads -= int(removed.sum())
    if hasattr(attention, "attn_dim"):  # of timm's
        attention.attn_dim = attention.proj.in_features


def cut_parts(network: nn.Module, group: ChannelGroup, removed: Tensor) -> None:
    """Remove a group's channels from its parameters and linear maps in place; what else depends on them stays.

    Args:
        network: has the layers.
        group: channels of linear maps, or heads.
        removed: (channels,) bool, not all True.
    """
    for part in group.parts:
        path, _, name = part.name.rpartition(".")
        module = network.get_submodule(path)
        parameter: Tensor = getattr(module, name)
        kept = (~group.drop(part, removed)).nonzero().flatten().to(parameter.device)
        smaller = parameter.detach().index_select(part.dim, kept)
        setattr(module, name, nn.Parameter(smaller, requires_grad=parameter.requires_grad))
        if isinstance(module, nn.Linear) and part.weight:
            module.out_features, module.in_features = smaller.shape


def is_attention(module: nn.Module) -> bool:
    """Return whether a module has what self-attention with fused projections has; shapes alone decide."""
    qkv, proj, heads = (getattr(module, name, None) for name in ("qkv", "proj", "num_heads"))
    if not (isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear) and isinstance(heads, int) and heads > 1):
        return False
    same = isinstance(qkv.weight, nn.Parameter) and isinstance(proj.weight, nn.Parameter)
    return same and qkv.out_features == 3 * proj.in_features and proj.in_features % heads == 0


def _heads_of(attention: Any) -> ChannelGroup:
    """Return the heads of an attention module, with the names of parameters inside it."""
    heads, width = int(attention.num_heads), int(attention.proj.in_features)
    owner = torch.arange(heads).repeat_interleave(width // heads)
    parts = [Part("qkv.weight", 0, owner.repeat(3), weight=True), Part("proj.weight", 1, owner, weight=True)]
    if attention.qkv.bias is not None:
        parts.append(Part("qkv.bias", 0, owner.repeat(3), weight=False))
    for name, parameter in attention.named_parameters(recurse=False):  # position biases have a column per head
        if list(parameter.shape).count(heads) == 1:
            parts.append(Part(name, list(parameter.shape).index(heads), torch.arange(heads), weight=False))
    positions = torch.arange(3 * width).view(3, heads, -1).transpose(0, 1).flatten(1).tolist()
    kind = type(attention).__name__
    structure: Structure = ((0, "Linear", True, 1, kind, True), (1, kind, True, 2, "Linear", False))
    return ChannelGroup("qkv", tuple(tuple(head) for head in positions), tuple(parts), "", structure)


def _problem(attention: nn.Module, heads: ChannelGroup, calls: Mapping[nn.Module, Call]) -> str | None:
    """Return why removing a head differs from zeros in its place, or None; tried on random weights and tokens."""
    if attention not in calls:
        return "is not called"
    args, kwargs = calls[attention].args, calls[attention].kwargs
    generator = torch.Generator().manual_seed(0)
    masked = copy.deepcopy(attention)
    first = torch.arange(len(heads.channels)) == 0
    with torch.no_grad():
        for parameter in masked.parameters():
            scale = max(parameter.shape[-1:], default=1) ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            args = (torch.randn(args[0].shape, generator=generator).to(args[0]), *args[1:])
        smaller = copy.deepcopy(masked)
        own = dict(masked.named_parameters())
        for part in heads.parts:
            zeros = heads.drop(part, first).nonzero().flatten()
            own[part.name].index_fill_(part.dim, zeros.to(own[part.name].device), 0)
        cut_heads(smaller, heads, first)
        expected = masked(*args, **kwargs)
        try:
            actual = smaller(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
            return "does not run with fewer heads"
    if not (isinstance(expected, Tensor) and isinstance(actual, Tensor) and expected.shape == actual.shape):
        return "returns no tensor of the tokens' shape"
    off = float((expected - actual).abs().max())
    same = off <= 1e-3 * float(expected.abs().max())
    return None if same else "computes something else without a head than with zeros in its place"
