"""Lending: a component must return what it borrows unchanged, or the loan is replaced and the borrower is named.

Pruners, recipes and tasks are third-party code, and they work on networks and data that others use after
them. Each borrows a copy. When it is done, the copy is compared with the original by content, because ``.data``
writes, replaced modules and in-place changes under ``inference_mode`` do not change any version counter.
A changed copy is discarded. Nothing that a borrower does reaches the original.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from pruningbench.contract import Samples, VisionModel

_SAME_WIDTH = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ATTRIBUTES = ("preprocessing", "classes", "head", "fingerprint")
_LARGEST_GUARDED = 2**25
"""Largest number of elements of an image array that is compared after each loan; larger ones are read as copies."""
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
    mine, others = _tensors(one), _tensors(other)
    return mine.keys() == others.keys() and all(same_bits(mine[name], others[name]) for name in mine)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def changes(original: nn.Module, lent: nn.Module) -> list[str]:
    """Return in words how a network and its lent copy differ; empty if they do not.

    The comparison covers modules (names, types, train or eval mode, hooks, replaced ``forward``), parameters and
    buffers (names, shapes, dtypes, devices, bits), ``requires_grad``, and whether a gradient is stored.
    """
    mine, others = dict(original.named_modules()), dict(lent.named_modules())
    types = {name: type(module) for name, module in mine.items()}
    if types != {name: type(module) for name, module in others.items()}:
        return ["its modules were added, removed or replaced"]
    found = []
    if any(module.training != others[name].training for name, module in mine.items()):
        found.append("its mode (train or eval) was changed")
    if any(_hooks(module) != _hooks(others[name]) for name, module in mine.items()):
        found.append("hooks were left on it")
    if any(("forward" in vars(module)) != ("forward" in vars(others[name])) for name, module in mine.items()):
        found.append("a module's forward was replaced")
    for kind, before, after in (
        ("parameter", dict(original.named_parameters()), dict(lent.named_parameters())),
        ("buffer", dict(original.named_buffers()), dict(lent.named_buffers())),
    ):
        if before.keys() != after.keys():
            found.append(f"a {kind} was added or removed")
            continue
        different = [name for name, tensor in before.items() if not same_bits(tensor, after[name])]
        if different:
            found.append(f"{kind}s changed, the first {different[0]!r}")
        if kind == "parameter":
            if any(p.requires_grad != after[name].requires_grad for name, p in before.items()):
                found.append("requires_grad was changed")
            if any((p.grad is None) != (after[name].grad is None) for name, p in before.items()):
                found.append("gradients were left on it")
    return found


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
        found = changes(self.original.network, self.model.network)
        if any(getattr(self.original, name) is not getattr(self.model, name, None) for name in _ATTRIBUTES):
            found.append("its preprocessing, classes, head or fingerprint was replaced")
        if found:
            self.model = self.original.clone()
        return found


class LentSamples:
    """Guards the arrays of an open data set that every component can reach: labels, boxes, images in memory.

    Args:
        samples: the data set; its reachable arrays are copied.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self._kept = [(tensor, tensor.clone()) for tensor in self._reachable()]
        self._said = (samples.fingerprint, samples.classes)

    def _reachable(self) -> Iterator[Tensor]:
        if isinstance(self.samples.labels, Tensor):
            yield self.samples.labels
        images = getattr(self.samples, "images", None)
        if isinstance(images, Tensor) and images.numel() <= _LARGEST_GUARDED:
            yield images
        boxes = getattr(self.samples, "boxes", None)
        yield from (box for box in (boxes if isinstance(boxes, (list, tuple)) else ()) if isinstance(box, Tensor))

    def collect(self) -> list[str]:
        """Return what a borrower changed; restore labels and boxes in place."""
        found = []
        if any(not same_bits(tensor, copy) for tensor, copy in self._kept):
            found.append("labels, boxes or images of a data set were changed")
            with torch.no_grad():
                for tensor, copy in self._kept:
                    tensor.data.copy_(copy)
        if (self.samples.fingerprint, self.samples.classes) != self._said:
            found.append("the fingerprint or classes of a data set were changed")
            self.samples.fingerprint, self.samples.classes = self._said
        return found


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return None


@dataclass
class Surroundings:
    """Process state that components share; it is read at the start, then compared and restored by `collect`."""

    threads: int = field(default_factory=torch.get_num_threads)
    dtype: torch.dtype = field(default_factory=torch.get_default_dtype)
    grad: bool = field(default_factory=torch.is_grad_enabled)
    deterministic: bool = field(default_factory=torch.are_deterministic_algorithms_enabled)
    folder: Path | None = field(default_factory=_folder)

    def collect(self) -> list[str]:
        """Restore what changed, and return it in words."""
        found = []
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
            found.append("the number of threads was changed")
        if torch.get_default_dtype() != self.dtype:
            torch.set_default_dtype(self.dtype)
            found.append("the default dtype was changed")
        if torch.is_grad_enabled() != self.grad:
            torch.set_grad_enabled(self.grad)
            found.append("autograd was switched on or off")
        if torch.are_deterministic_algorithms_enabled() != self.deterministic:
            torch.use_deterministic_algorithms(self.deterministic)
            found.append("deterministic algorithms were switched")
        if self.folder is not None and _folder() != self.folder:
            os.chdir(self.folder)
            found.append("the working folder was changed")
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
