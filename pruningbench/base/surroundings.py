"""Process state of torch that components share: threads, default dtype, autocast and the like; set back after use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from pruningbench.base.files import change_folder, current_folder

_DEVICES = ("cpu", "cuda")


def _device() -> torch.device:
    try:
        return torch.get_default_device()
    except AttributeError:  # torch 2.6, once the default was set to None
        return torch.device("cpu")


def _to_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # None also restores the fast path


def _autocast() -> tuple[tuple[bool, torch.dtype], ...]:
    return tuple((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _DEVICES)


def _to_autocast(state: tuple[tuple[bool, torch.dtype], ...]) -> None:
    for kind, (enabled, dtype) in zip(_DEVICES, state, strict=True):
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    torch.clear_autocast_cache()


def _nesting() -> int:
    """How many autocast regions are open.

    The low-precision copies of weights are only dropped when the outermost region ends. If one is never left, all
    later training with autocast computes with the copies of its first step.
    """
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


def _to_nesting(count: int) -> None:
    while _nesting() > count:
        torch.autocast_decrement_nesting()
    while _nesting() < count:
        torch.autocast_increment_nesting()
    torch.clear_autocast_cache()


def _flushes() -> bool:
    """Whether denormal numbers are flushed to zero; torch can set this, but does not tell."""
    return not bool((torch.full((8,), 1e-310, dtype=torch.float64, device="cpu") * 1.0).any())


def _precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set for single backends, which this function refuses to summarise
        return ""


def _to_precision(precision: str) -> None:
    with suppress(RuntimeError):
        torch.set_float32_matmul_precision(precision or "highest")


_BACKENDS: Any = torch.backends  # whose switches are descriptors that mypy takes for values


def _backends() -> tuple[bool, ...]:
    return (_BACKENDS.mkldnn.enabled, _BACKENDS.cudnn.enabled, _BACKENDS.cudnn.benchmark)


def _to_backends(state: tuple[bool, ...]) -> None:
    _BACKENDS.mkldnn.enabled, _BACKENDS.cudnn.enabled, _BACKENDS.cudnn.benchmark = state


_STATE: tuple[tuple[str, Callable[[], Any], Callable[[Any], Any]], ...] = (
    ("the default device was changed", _device, _to_device),  # first: others make tensors
    ("the number of threads was changed", torch.get_num_threads, torch.set_num_threads),
    ("the default dtype was changed", torch.get_default_dtype, torch.set_default_dtype),
    ("autocast was left on or changed", _autocast, _to_autocast),
    ("a region of autocast was opened or closed", _nesting, _to_nesting),
    ("autograd was switched on or off", torch.is_grad_enabled, torch.set_grad_enabled),
    (
        "deterministic algorithms were switched",
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    ("the precision of matrix products was changed", _precision, _to_precision),
    ("backends of torch were switched", _backends, _to_backends),
    ("flushing of denormal numbers was switched", _flushes, torch.set_flush_denormal),
    ("the working folder was changed", current_folder, change_folder),
)
"""What a change is called, how to read the state, and how to set it."""


class Surroundings:
    """Process state that components share; it is read at the start, then compared and restored by `collect`."""

    def __init__(self) -> None:
        self._before = [read() for _, read, _ in _STATE]

    def collect(self) -> list[str]:
        """Restore what changed, and return it in words."""
        found = []
        for (words, read, restore), before in zip(_STATE, self._before, strict=True):
            if read() != before:
                restore(before)
                found.append(words)
        return found
