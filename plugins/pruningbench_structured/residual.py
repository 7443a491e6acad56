"""Residual blocks and their branches as units that can be taken out of a network.

A block is recognised by what it computes, not by its name: with all of its parameters at zero it returns its input.
This holds for the blocks of vision transformers, Swin, MLP-Mixer and ConvNeXt, and for those of ResNets whose shortcut
is the identity. Whether it holds is tried out on images.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruningbench.pruning.scope import prunable_parameters
from pruningbench_structured.calls import Call, recorded_calls


@dataclass(frozen=True)
class Unit:
    """A residual block, or one of the branches that it adds to its input.

    Attributes:
        name: the module.
        block: the residual block that it is or belongs to.
        weights: its prunable weights.
        dim: dimension of the channels in the block's output.
    """

    name: str
    block: str
    weights: tuple[str, ...]
    dim: int

    @property
    def whole(self) -> bool:
        """Whether it is a whole block."""
        return self.name == self.block


def residual_units(
    network: nn.Module,
    images: Tensor,
    prunable: Collection[str],
    *,
    branches: bool = False,
    wanted: Callable[[Collection[str]], bool] = bool,
) -> tuple[list[Unit], dict[str, str]]:
    """Return the residual blocks of a network in module order, and why others are left out.

    Args:
        network: in eval mode; it is left as it was.
        images: (B, ...) inputs that it accepts.
        prunable: names of the weights that may be removed.
        branches: whether to return the branches of blocks that add several to their input, instead of these blocks.
        wanted: whether a unit with these prunable weights is looked for at all.

    Returns:
        The innermost blocks, or their branches; and the block -> reason of those that were left out.
    """
    trial = copy.deepcopy(network).eval()
    _enliven(trial)
    calls = recorded_calls(trial, images)
    modules = dict(trial.named_modules())
    blocks: list[str] = []
    for name in sorted(modules, key=lambda name: -name.count(".")):  # innermost first
        inner = any(other.startswith(f"{name}.") for other in blocks)
        call = calls.get(modules[name])
        if name and not inner and call is not None and _is_block(modules[name], call):
            blocks.append(name)
    uses = Counter(p for module in modules.values() for p in module.parameters(recurse=False))
    default = prunable_parameters(trial)
    units: list[Unit] = []
    skipped: dict[str, str] = {}
    for name in (name for name in modules if name in blocks):
        module, call = modules[name], calls[modules[name]]
        weights = _within(name, default)
        outside = [weight for weight in weights if weight not in prunable]
        if call.times > 1 or any(uses[p] > 1 for p in module.parameters()):
            skipped[name] = "it or its weights are used more than once"
        elif outside:
            skipped[name] = f"{outside[0]} is outside the scope"
        else:
            block = Unit(name, name, weights, _channels(module, call.output))
            found = _branches(trial, block, calls) if branches else []
            units += [unit for unit in found or [block] if wanted(unit.weights)]
    return units, skipped


@contextmanager
def replaced(network: nn.Module, name: str, module: nn.Module) -> Iterator[None]:
    """Put another module in the place of the one called `name` for the block; the network itself if name is empty."""
    original = network.get_submodule(name)
    put(network, name, module)
    try:
        yield
    finally:
        put(network, name, original)


def put(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one called `name`."""
    parent, _, own = name.rpartition(".")
    network.get_submodule(parent)._modules[own] = module


def _enliven(network: nn.Module) -> None:
    """Fill parameters that are zero, as in pruned and new networks, with noise: what they do would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point() and not parameter.any():
                scale = max(1, parameter[0].numel()) ** -0.5 if parameter.ndim > 1 else 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def _within(name: str, weights: Collection[str]) -> tuple[str, ...]:
    return tuple(weight for weight in weights if weight.startswith(f"{name}."))


def _is_block(module: nn.Module, call: Call) -> bool:
    """Return whether a module returns its input when all of its parameters are zero."""
    given = call.args[0] if call.args else None
    if not (isinstance(given, Tensor) and isinstance(call.output, Tensor) and call.output.shape == given.shape):
        return False
    if not any(p.ndim > 1 for p in module.parameters()):
        return False
    with _zeros(module):
        return _returns_input(module, call)


def _returns_input(module: nn.Module, call: Call) -> bool:
    try:
        output = call.again(module)
    except (RuntimeError, ValueError, ZeroDivisionError):
        return False
    return isinstance(output, Tensor) and torch.allclose(output, call.args[0], rtol=1e-6, atol=1e-7)


def _branches(network: nn.Module, block: Unit, calls: Mapping[nn.Module, Call]) -> list[Unit]:
    """Return the children whose outputs a block adds to its input one after the other; none if there are not several.

    With the parameters of a branch at zero its output is zero, and with those of all branches at zero the block returns
    its input, but not with those of one.
    """
    module = network.get_submodule(block.name)
    call = calls[module]
    units, children = [], []
    for local, child in module.named_children():
        name = f"{block.name}.{local}"
        weights, own = _within(name, block.weights), calls.get(child)
        if not weights or own is None or own.times > 1 or not _adds_nothing_at_zero(child, own):
            continue
        with _zeros(child):
            if torch.equal(call.again(module), call.args[0]):
                return []
        children.append(child)
        units.append(Unit(name, block.name, weights, block.dim))
    with ExitStack() as stack:
        for child in children:
            stack.enter_context(_zeros(child))
        return units if len(units) > 1 and _returns_input(module, call) else []


def _adds_nothing_at_zero(child: nn.Module, call: Call) -> bool:
    if not (call.args and isinstance(call.args[0], Tensor) and isinstance(call.output, Tensor)):
        return False
    with _zeros(child):
        return call.output.shape == call.args[0].shape and not bool(call.again(child).any())


@contextmanager
def _zeros(module: nn.Module) -> Iterator[None]:
    """Set the parameters of a module to zero for the block."""
    saved = [(parameter, parameter.detach().clone()) for parameter in module.parameters()]
    with torch.no_grad():
        for parameter, _ in saved:
            parameter.zero_()
        try:
            yield
        finally:
            for parameter, values in saved:
                parameter.copy_(values)


def _channels(module: nn.Module, output: Tensor) -> int:
    """Return the dimension of the channels: the second of images in a block with convolutions, else the last."""
    convolutional = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in module.modules())
    return 1 if convolutional and output.ndim > 3 else output.ndim - 1
