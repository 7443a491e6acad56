"""Removable groups in plain form: which entries of which parameters belong to a channel or an attention head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Structure = tuple[tuple[int, str, bool, int, str, bool], ...]
"""A group's dependencies, each from one layer to another: number, type and whether outputs are cut, of both."""


@dataclass(frozen=True)
class Part:
    """The entries of one parameter that belong to a group's channels.

    Attributes:
        name: the parameter.
        dim: dimension along which it is cut.
        owner: (shape[dim],) int64: for each entry along `dim`, the channel of the group that owns it, or -1.
        weight: whether it is the weight of a linear map or convolution; otherwise a bias, or a norm's scale or shift.
    """

    name: str
    dim: int
    owner: Tensor
    weight: bool


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can be removed one by one, each together with the entries that depend on it.

    Attributes:
        name: the layer whose output channels they are.
        channels: for each channel, its positions in that layer's output; several in grouped convolutions, and the
            queries, keys and values of an attention head.
        parts: the parameter entries that they own.
        attention: name of the module whose attention heads the channels are, or None for channels.
        structure: the dependencies between the layers that share the channels; groups with equal structures have
            isomorphic graphs.
        embedding: whether the channels are those of a vision transformer's embedding.
    """

    name: str
    channels: tuple[tuple[int, ...], ...]
    parts: tuple[Part, ...]
    attention: str | None = None
    structure: Structure = ()
    embedding: bool = False

    def drop(self, part: Part, removed: Tensor) -> Tensor:
        """Return a bool mask of the entries of `part`, along its dimension, that belong to the removed channels."""
        return (part.owner >= 0) & removed[part.owner.clamp(min=0)]


@dataclass(frozen=True)
class ChannelGraph:
    """The removable channel groups of a network, in module order, and why other layers have none.

    Attributes:
        network: the traced copy.
        groups: the groups whose channels can be removed.
        skipped: layer -> reason.
        dependencies: Torch-Pruning's graph of `network`.
    """

    network: nn.Module
    groups: tuple[ChannelGroup, ...]
    skipped: Mapping[str, str]
    dependencies: Any
