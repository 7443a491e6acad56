"""Lending: a component must return what it borrows unchanged, or the loan is replaced and the borrower is named.

Pruners, recipes and tasks are third-party code, and they work on networks and data that others use after
them. Each borrows a copy. When it is done, the copy is compared with the original by content, because ``.data``
writes, replaced modules and in-place changes under ``inference_mode`` do not change any version counter.
A changed copy is discarded. Nothing that a borrower does reaches the original.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pruningbench.base.surroundings import Surroundings
from pruningbench.contract import VisionModel

_SAME_WIDTH = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ABSENT = object()
_OF_MODULES = frozenset({*vars(nn.Module()), "forward"})
"""Attributes that every module has; they are compared in ways of their own."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape, dtype, device and bits; a NaN equals the same NaN."""
    if one is other:
        return True
    if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
        return False
    one, other = one.detach(), other.detach()
    if one.is_complex():
        one, other = torch.view_as_real(one), torch.view_as_real(other)
    if one.is_floating_point():
        bits = _SAME_WIDTH[one.element_size()]
        one, other = one.contiguous().view(bits), other.contiguous().view(bits)
    return torch.equal(one, other)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same parameters and buffers, by name and bits."""
    mine, others = Parts(one), Parts(other)
    return all(
        before.keys() == after.keys() and all(same_bits(tensor, after[name]) for name, tensor in before.items())
        for before, after in ((mine.parameters, others.parameters), (mine.buffers, others.buffers))
    )


class Parts:
    """The modules, parameters and buffers of a network by name, each once, as torch's iterators give them.

    Three walks through the tree would take most of the time of a comparison.
    """

    def __init__(self, network: nn.Module) -> None:
        self.modules = dict(network.named_modules())
        self.parameters: dict[str, nn.Parameter] = {}
        self.buffers: dict[str, Tensor] = {}
        seen: set[int] = set()
        for path, module in self.modules.items():
            dot = f"{path}." if path else ""
            found: dict[str, Any]
            for found, own in ((self.parameters, module._parameters), (self.buffers, module._buffers)):
                for name, tensor in own.items():
                    if tensor is not None and id(tensor) not in seen:
                        seen.add(id(tensor))
                        found[dot + name] = tensor


def changes(original: nn.Module, lent: nn.Module) -> list[str]:
    """Return in words how a network and its lent copy differ; empty if they do not.

    The comparison covers what `structural_changes` compares, the mode (train or eval), the bits of parameters and
    buffers, and whether a gradient is stored.
    """
    mine, others = Parts(original), Parts(lent)
    found = _structural(mine, others)
    if mine.modules.keys() != others.modules.keys():
        return found
    if any(module.training != others.modules[name].training for name, module in mine.modules.items()):
        found.append("its mode (train or eval) was changed")
    for kind, before, after in _named_tensors(mine, others):
        if before.keys() != after.keys():
            continue
        different = [name for name, tensor in before.items() if not same_bits(tensor, after[name])]
        if different:
            found.append(f"{kind}s changed, the first {different[0]!r}")
        if kind == "parameter" and any((p.grad is None) != (after[name].grad is None) for name, p in before.items()):
            found.append("gradients were left on it")
    return found


def structural_changes(original: nn.Module, lent: nn.Module) -> list[str]:
    """Return in words how a network differs from another apart from its weights; empty if it does not.

    The comparison covers modules (names, types, hooks, replaced ``forward``), their settings (attributes that are
    numbers, texts, functions or tuples of such, as ``eps`` and ``stride``), names of parameters and buffers, and
    ``requires_grad``.
    """
    return _structural(Parts(original), Parts(lent))


def _structural(one: Parts, other: Parts) -> list[str]:
    mine, others = one.modules, other.modules
    types = {name: type(module) for name, module in mine.items()}
    if types != {name: type(module) for name, module in others.items()}:
        return ["its modules were added, removed or replaced"]
    found = []
    if any(_hooks(module) != _hooks(others[name]) for name, module in mine.items()):
        found.append("hooks were left on it")
    if any(("forward" in vars(module)) != ("forward" in vars(others[name])) for name, module in mine.items()):
        found.append("a module's forward was replaced")
    settings = [f"{name}.{setting}" for name, module in mine.items() for setting in _settings(module, others[name])]
    if settings:
        found.append(f"settings of modules changed, the first {settings[0].lstrip('.')!r}")
    for kind, before, after in _named_tensors(one, other):
        if before.keys() != after.keys():
            found.append(f"a {kind} was added or removed")
        elif kind == "parameter" and any(p.requires_grad != after[name].requires_grad for name, p in before.items()):
            found.append("requires_grad was changed")
    return found


def _named_tensors(one: Parts, other: Parts) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    yield "parameter", one.parameters, other.parameters
    yield "buffer", one.buffers, other.buffers


def _settings(module: nn.Module, other: nn.Module) -> list[str]:
    """Return the settings in which two modules differ; tensors, containers of modules and the like are no settings."""
    before, after = vars(module), vars(other)
    names = {*before, *after} - _OF_MODULES
    pairs = ((name, before.get(name, _ABSENT), after.get(name, _ABSENT)) for name in names)
    return sorted(
        name for name, was, now in pairs if was is not now and (_is_setting(was) or _is_setting(now)) and was != now
    )


def _is_setting(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_setting, value))
    plain = (bool, int, float, complex, str, torch.dtype, torch.device, FunctionType, BuiltinFunctionType)
    return value is None or isinstance(value, plain)


def view_changes(original: VisionModel, lent: VisionModel) -> list[str]:
    """Return in words whether attributes or methods of a lent model, other than its network, were replaced."""
    if type(original) is not type(lent):
        return ["the model's class was replaced"]
    before, after = vars(original), vars(lent)
    replaced = [name for name in before if name != "network" and after.get(name, _ABSENT) is not before[name]]
    replaced += [name for name in after if name not in before and hasattr(type(lent), name)]  # hides a method
    return [f"an attribute of the model was replaced, the first {replaced[0]!r}"] if replaced else []


def _hooks(module: nn.Module) -> tuple[int, ...]:
    return tuple(len(getattr(module, name, ())) for name in _HOOKS)


class Loan:
    """A model that is lent to one component after another.

    Args:
        original: the model to protect; borrowers never get it.
    """

    def __init__(self, original: VisionModel) -> None:
        self.original = original
        self.model = original.clone()

    def collect(self) -> list[str]:
        """Take the copy back and return what the borrower changed; if it changed anything, lend a new copy."""
        found = changes(self.original.network, self.model.network) + view_changes(self.original, self.model)
        if found:
            self.model = self.original.clone()
        return found


class Lender(Protocol):
    """An object that lends something and can take it back."""

    def collect(self) -> list[str]:
        """Take back what was lent; return what the borrower changed, in words."""
        ...


class Blame:
    """Collects which borrower changed what, each borrower and kind of change once."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._new: list[str] = []

    def add(self, borrower: str, found: list[str]) -> None:
        """Record what `borrower` (kind and label of a component) changed."""
        for what in found:
            kind = what.partition(",")[0]
            if (borrower, kind) not in self._seen:
                self._seen.add((borrower, kind))
                self._new.append(f"{borrower} must leave everything unchanged, but {what}")

    def take(self) -> str:
        """Return the changes recorded since the last call in one line, or ""."""
        text, self._new = "; ".join(self._new), []
        return text


@contextmanager
def lending(borrower: str, blame: Blame, *lenders: Lender) -> Iterator[list[str]]:
    """Lend inside the block; afterwards take everything back, and blame `borrower` for what changed.

    The shared process state (threads, default dtype, grad mode, working folder) is restored too.

    Yields:
        a list that holds what changed, in words, once the block has ended.
    """
    surroundings = Surroundings()
    found: list[str] = []
    try:
        yield found
    finally:
        found += surroundings.collect()
        for lender in lenders:
            found += lender.collect()
        blame.add(borrower, found)
