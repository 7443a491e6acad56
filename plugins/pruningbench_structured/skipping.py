"""Residual blocks and branches really taken out of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pruningbench.pruning.masks import Masks
from pruningbench_structured.calls import Call, recorded_calls
from pruningbench_structured.outputs import check_same
from pruningbench_structured.residual import Unit, put, residual_units


class Skip(nn.Module):
    """What remains of a residual block without its branches: it returns its first argument.

    Args:
        shift: (channels,) what is added to it before; None for nothing. Training may leave biases in the place of a
            block whose weights stay at zero.
        dim: dimension of the channels.
        rectify: whether negative values become zero, as at the end of a ResNet's block.
    """

    def __init__(self, shift: Tensor | None = None, dim: int = -1, *, rectify: bool = False) -> None:
        super().__init__()
        self.shift = None if shift is None else nn.Parameter(shift)
        self.dim, self.rectify = dim, rectify

    def forward(self, x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        """Return `x`, of any shape, shifted and rectified."""
        if self.shift is not None:
            x = x + self.shift.view(-1, *[1] * (x.ndim - 1 - self.dim % x.ndim))
        return x.relu() if self.rectify else x


class Constant(nn.Module):
    """What remains of a branch: it returns the same vector, or zero, in the shape of its first argument."""

    def __init__(self, value: Tensor | None = None, dim: int = -1) -> None:
        super().__init__()
        self.value = None if value is None else nn.Parameter(value)
        self.dim = dim

    def forward(self, x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        """Return a tensor of the shape of `x`."""
        if self.value is None:
            return x.new_zeros(()).expand(x.shape)
        return self.value.view(-1, *[1] * (x.ndim - 1 - self.dim % x.ndim)).expand(x.shape)


def stand_in(unit: Unit) -> nn.Module:
    """Return what to put in the place of a unit that is taken out."""
    return Skip() if unit.whole else Constant()


def silence_units(network: nn.Module, units: Sequence[Unit]) -> None:
    """Set all parameters of units to zero in place."""
    with torch.no_grad():
        for unit in units:
            for parameter in network.get_submodule(unit.name).parameters():
                parameter.zero_()


def without_units(masked: nn.Module, units: Sequence[Unit], images: Tensor) -> None:
    """Take units out of a network whose parameters for them are zero, in place.

    Raises:
        PruningBenchError: if its outputs change.
    """
    with torch.no_grad():
        expected = masked(images)
    for unit in units:
        put(masked, unit.name, stand_in(unit))
    check_same(expected, masked, images, "blocks")


def take_out(network: nn.Module, masks: Masks, images: Tensor) -> None:
    """Replace the residual blocks and branches whose weights are all pruned by modules that compute the same.

    Norms that only feed such branches go as well. If the network still has some of these weights, the other parameters
    of the block or branch are set to zero, as the pruner does. If the weights are zero, the others may have been
    trained since, and they count: what they add remains, and so does the block if this is more than a constant.

    Args:
        network: in eval mode, dense or pruned. It is changed: the masks are applied, blocks are replaced.
        masks: parameter -> bool mask, True = kept.
        images: (B, ...) inputs that it accepts.

    Raises:
        MaskError: if the masks do not fit the network.
        PruningBenchError: if its outputs change with the replacement.
    """

    def wanted(weights: Any) -> bool:
        return bool(weights) and not any(bool(masks[weight].any()) for weight in weights)

    alive = {name for name, parameter in network.named_parameters() if parameter.any()}
    masks.apply(network)
    if all(bool(mask.any()) for mask in masks.values()):
        return
    whole, _ = residual_units(network, images, masks, wanted=wanted)
    single, _ = residual_units(network, images, masks, branches=True, wanted=wanted)
    units = [*whole, *(unit for unit in single if unit.block not in {other.name for other in whole})]
    silence_units(network, [unit for unit in units if alive.intersection(unit.weights)])
    calls = recorded_calls(network, images)
    with torch.no_grad():
        expected = network(images)
    for unit in units:
        call = calls[network.get_submodule(unit.name)]
        remains = (
            _remains_of_block(network.get_submodule(unit.name), unit, call) if unit.whole else _constant(unit, call)
        )
        if remains is not None:
            put(network, unit.name, remains)
    for block in sorted({unit.block for unit in units if not unit.whole}):
        _without_idle_norms(network.get_submodule(block), calls)
    check_same(expected, network, images, "blocks")


def _remains_of_block(block: nn.Module, unit: Unit, call: Call) -> nn.Module | None:
    """Return a small module that computes what a block of zero weights does, or None if there is none.

    An offset that makes all outputs positive shows the shift behind a rectifier.
    """
    given: Tensor = call.args[0]
    choices = [Skip()]
    for offset in (0.0, 1.0, 4.0, 16.0, 64.0):
        moved = Call((torch.full_like(given, offset), *call.args[1:]), call.kwargs, None, 1)
        with torch.no_grad():
            shift = _vector(moved.again(block), unit.dim) - offset
        choices += [Skip(shift, unit.dim, rectify=rectify) for rectify in (False, True)]
    return next((choice for choice in choices if _same(choice(given), call.output)), None)


def _constant(unit: Unit, call: Call) -> nn.Module | None:
    value = _vector(call.output, unit.dim)
    choices = [Constant(), Constant(value, unit.dim)]
    return next((choice for choice in choices if _same(choice(call.args[0]), call.output)), None)


def _without_idle_norms(block: nn.Module, calls: Mapping[nn.Module, Call]) -> None:
    """Replace norms of a block that no longer change its output."""
    call = calls[block]
    with torch.no_grad():
        expected = call.again(block)
        for name, child in list(block.named_children()):
            if "norm" in type(child).__name__.lower():
                put(block, name, nn.Identity())
                if not torch.equal(call.again(block), expected):
                    put(block, name, child)


def _vector(output: Tensor, dim: int) -> Tensor:
    """Return the channels of the first position of the first sample, (channels,)."""
    return output.detach().movedim(dim, -1).flatten(0, -2)[0].clone()


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-6 * float(b.abs().max()))
