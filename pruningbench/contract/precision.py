"""The precision of a task's forward passes: which there are, where each works, and the region in which one applies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

if TYPE_CHECKING:
    import torch
    from torch import nn

F = TypeVar("F", bound=Callable[..., Any])

Precision = Literal["float32", "tf32", "bf16"]
"""``float32``; ``tf32``: products of float32 on tensor cores; ``bf16``: autocast to bfloat16, results in float32."""
PRECISIONS: tuple[str, ...] = get_args(Precision)
FULL: Precision = "float32"
_TF32_SINCE = (8, 0)
"""Compute capability of the first NVIDIA devices with TF32 and bfloat16 (Ampere)."""
_IN_FORCE: ContextVar[str] = ContextVar("precision", default=FULL)


def refusal(precision: str, device: torch.device) -> str:
    """Return in one line why a device cannot compute in a precision and what to do, or ""."""
    import torch

    other = f"choose precision: float32{' or bf16' if device.type == 'cpu' else ''}, or another --device"
    if precision == FULL or (precision == "bf16" and device.type == "cpu"):
        return ""
    if device.type != "cuda":
        return f"precision {precision}: device {device} does not have it; {other}"
    if torch.cuda.get_device_capability(device) < _TF32_SINCE:
        return f"precision {precision}: {torch.cuda.get_device_name(device)} does not have it; {other}"
    return ""


@contextmanager
def computed_in(precision: str, *networks: nn.Module) -> Iterator[None]:
    """Make all forward passes inside the block in a precision.

    With ``bf16`` every view of every `VisionModel` runs under autocast and returns float32; so do calls of `networks`
    themselves. Gradients follow their forward pass; whatever else is computed keeps its precision. On an NVIDIA device
    ``tf32`` allows TF32 for all products inside the block, and every other precision forbids it: torch by itself
    allows it for convolutions. As torch's autocast, the precision holds for the thread that entered the block.

    Args:
        precision: one of `PRECISIONS`.
        networks: networks that may be called directly; they get hooks until the block ends.
    """
    with ExitStack() as inside:
        inside.enter_context(kernels(precision))
        token = _IN_FORCE.set(precision)
        inside.callback(_IN_FORCE.reset, token)
        if precision == "bf16":
            for network in networks:
                inside.enter_context(_lowered_calls(network))
        yield


@contextmanager
def in_full() -> Iterator[None]:
    """Leave the precision of a surrounding task inside the block, for a network that is made while the task runs."""
    token = _IN_FORCE.set(FULL)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


@contextmanager
def kernels(precision: str) -> Iterator[None]:
    """Allow or forbid TF32 on NVIDIA devices inside the block: ``tf32`` allows it, every other precision does not.

    Without this, torch forbids it for matrix products and allows it for convolutions.
    """
    import torch

    backends: Any = torch.backends
    switches = (backends.cuda.matmul, backends.cudnn) if torch.cuda.is_available() else ()
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


def lowered(view: F) -> F:
    """Let a view of a `VisionModel` follow the precision in force; the views that it calls belong to its own pass."""

    @wraps(view)
    def called(model: Any, *arguments: Any, **named: Any) -> Any:
        if _IN_FORCE.get() != "bf16":
            return view(model, *arguments, **named)
        kind, whole = model.device.type, frozenset(model.network.modules())
        return _raised(_under_autocast(view, kind, model, *arguments, **named), kind, whole)

    called.lowered = True  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


def _under_autocast(function: Callable[..., Any], kind: str, *arguments: Any, **named: Any) -> Any:
    import torch

    token = _IN_FORCE.set(FULL)
    try:
        with torch.autocast(kind, torch.bfloat16):
            return function(*arguments, **named)
    finally:
        _IN_FORCE.reset(token)


def _raised(found: Any, kind: str, whole: Collection[Any] = ()) -> Any:
    """Return what a view returned in float32; functions that it returned follow the precision when they are called.

    Modules of the network itself (`whole`) are returned as they are: a view names them, for hooks.
    """
    import torch

    if isinstance(found, torch.Tensor):
        return found.float() if found.dtype == torch.bfloat16 else found
    if isinstance(found, (tuple, list)):
        return type(found)(_raised(one, kind, whole) for one in found)
    if not callable(found) or found in whole:
        return found

    def called(*arguments: Any, **named: Any) -> Any:
        if _IN_FORCE.get() != "bf16":
            return found(*arguments, **named)
        return _raised(_under_autocast(found, kind, *arguments, **named), kind)

    return called


@contextmanager
def _lowered_calls(network: nn.Module) -> Iterator[None]:
    """Run calls of a network itself under autocast, and return their results in float32."""
    import torch
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    kind = next((p.device.type for p in network.parameters()), "cpu")
    calls: list[ExitStack] = []  # those in progress

    def enter(_module: nn.Module, _inputs: Any) -> None:
        region = ExitStack()
        # otherwise the call belongs to a view's pass, or its operations are counted, weights known by their memory
        if _IN_FORCE.get() == "bf16" and _get_current_dispatch_mode() is None:
            region.enter_context(torch.autocast(kind, torch.bfloat16))
            region.callback(_IN_FORCE.reset, _IN_FORCE.set(FULL))
        calls.append(region)

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        calls.pop().close()
        return _raised(output, kind) if _IN_FORCE.get() == "bf16" else output

    handles = (
        network.register_forward_pre_hook(enter, prepend=True),
        network.register_forward_hook(leave, always_call=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
