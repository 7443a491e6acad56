"""A stand-in for an NVIDIA device: tensors on the CPU that say they are on ``cuda:0``, and refuse what a GPU refuses.

The tests of GPUs are rehearsed with it where there is none. It computes on the CPU, and raises as torch does if tensors
of the device and of the CPU meet in one operation, if a CPU generator draws on the device, or if ``numpy()`` is called
on a tensor of the device. What it cannot show: kernels of a GPU, their rounding, memory and streams.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cuda", 0)
"""What the tensors say in Python."""
NAME = "standin"
"""What they say in torch's C++ code, which would call a driver for "cuda"; a backend written in Python, torch >= 2.9."""
CPU = torch.device("cpu")
MEMORY = 80 * 2**30
COPIES = ("aten::copy_", "aten::_to_copy", "aten::to", "aten::set_")
"""Operations whose tensors may be on different devices."""
INDEXES = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")
"""Operations on the device that take indices from the CPU."""
_ANY_GENERATOR = torch.Generator
_CALLED = threading.local()
"""Whether the call in progress got a generator of the device: torch's C++ code hands on another object in its place."""
JOINS = ("aten::cat", "aten::stack")
"""Operations that take no scalar tensor of another device."""


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device.

    Attributes:
        held: the CPU tensor with its values, which shares their memory.
    """

    held: torch.Tensor

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> OnDevice:
        real = real.detach()
        made: OnDevice = torch.Tensor._make_subclass(
            cls, real, False, dispatch_device=True, device_for_backend_keys=torch.device(NAME, 0)
        )
        made.held = real
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.cpu().numpy()
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnDevice({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDevice:
        if id(self) not in memo:
            twin = OnDevice(self.held.clone()).requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                twin._is_param = True
            memo[id(self)] = twin
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("the stand-in for a device is not pickled")


class Device(TorchDispatchMode):
    """Makes the device's tensors where they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Renamed(TorchFunctionMode):
    """Lets torch's C++ code read the other name of the device, so that it loads no driver."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = renamed(kwargs["device"])
        if func is torch.Tensor.to:
            args = tuple(map(renamed, args))
        elif func is torch.Tensor.cuda:
            func, args = torch.Tensor.to, (args[0], torch.device(NAME, 0))
        drawing = getattr(_CALLED, "by_its_generator", False)
        _CALLED.by_its_generator = getattr(kwargs.get("generator"), "there", False)
        try:
            return func(*args, **kwargs)
        finally:
            _CALLED.by_its_generator = drawing


def renamed(value: Any) -> Any:
    """Return the other name of the device; anything else unchanged."""
    cuda = str(value).startswith("cuda") if isinstance(value, (str, torch.device)) else False
    return torch.device(NAME, 0) if cuda else value


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation on the CPU, if a GPU would run it, and mark its results."""
    if func is torch.ops.prim.device.default:
        return torch.device(NAME, 0)
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_device = any(isinstance(tensor, OnDevice) for tensor in tensors)
    wanted = kwargs.get("device")
    there = on_device if wanted is None else torch.device(wanted).type in ("cuda", NAME)
    _check(func, args, kwargs, tensors, there=there)
    wrappers: dict[int, OnDevice] = {}

    def real(tensor: OnDevice) -> torch.Tensor:
        wrappers[id(tensor.held)] = tensor
        return tensor.held

    args, kwargs = tree_map_only(OnDevice, real, (args, kwargs))
    if wanted is not None:
        kwargs = {**kwargs, "device": CPU}
    found = func(*args, **{name: value for name, value in kwargs.items() if name != "pin_memory"})
    if not there:
        return found
    return tree_map_only(
        torch.Tensor, lambda one: wrappers.get(id(one)) if id(one) in wrappers else OnDevice(one), found
    )


def _check(func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor], *, there: bool) -> None:
    """Raise if a GPU would."""
    name = func._schema.name
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, _ANY_GENERATOR) and there and not getattr(_CALLED, "by_its_generator", False):
            raise RuntimeError(f"{name}: expected a 'cuda' device type for generator but found 'cpu'")
    if name in COPIES or not any(isinstance(tensor, OnDevice) for tensor in tensors):
        return
    if name in INDEXES and isinstance(args[0], OnDevice):
        tensors = [args[0], *(one for one in args[2:3] if isinstance(one, torch.Tensor))]
    least = 0 if name in JOINS else 1
    for tensor in tensors:
        if not isinstance(tensor, OnDevice) and tensor.ndim >= least:
            raise RuntimeError(
                f"{name}: expected all tensors on one device, found cuda:0 and cpu {tuple(tensor.shape)}"
            )


class _Generator(torch.Generator):
    """A generator that knows whether it was made for the device."""

    there: bool

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made: _Generator = super().__new__(cls, "cpu")
        made.there = torch.device(device).type == "cuda"
        return made


class _Event:
    """An event that takes the clock's time."""

    def __init__(self, **_options: Any) -> None:
        self.at = 0.0

    def record(self, _stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: _Event) -> float:
        return (other.at - self.at) * 1000


class _Hook(torch._C._acc.PrivateUse1Hooks):  # type: ignore[name-defined]
    """Says that no device has been used, so that autograd asks for no stream."""

    def is_available(self) -> bool:
        return True

    def has_primary_context(self, _device: int) -> bool:
        return False

    def is_built(self) -> bool:
        return True


class _Guard(torch._C._acc.DeviceGuard):  # type: ignore[name-defined]
    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1  # type: ignore[attr-defined]


@cache
def prepare() -> None:
    """Tell torch of the stand-in, for the rest of this process; before autograd starts its threads, one for each device."""
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(
        NAME,
        SimpleNamespace(is_available=lambda: True, _is_in_bad_fork=lambda: False, manual_seed_all=lambda _seed: None),
    )  # type: ignore[no-untyped-call]
    torch._C._acc.register_python_privateuseone_hook(_Hook())  # type: ignore[attr-defined]
    torch._C._acc.register_python_privateuseone_device_guard(_Guard())  # type: ignore[attr-defined]


def _pinned(tensor: torch.Tensor, *_device: Any) -> torch.Tensor:
    if isinstance(tensor, OnDevice):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")  # noqa: TRY004
    return tensor


_RUN = threading.Thread.run


def _run_there(thread: threading.Thread) -> None:
    """Let threads that are started inside the block see the stand-in, too."""
    with Device(), Renamed():
        _RUN(thread)


@contextmanager
def standing_in() -> Iterator[None]:
    """Let ``cuda`` name the stand-in inside the block, in this thread."""
    prepare()
    cuda: dict[str, Any] = {
        "_lazy_init": lambda: None, "is_available": lambda: True, "device_count": lambda: 1,
        "current_device": lambda: 0, "synchronize": lambda device=None: None, "empty_cache": lambda: None,
        "is_bf16_supported": lambda *_: True, "Event": _Event, "get_device_name": lambda device=None: "stand-in",
        "get_device_capability": lambda device=None: (9, 0), "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0, "reset_peak_memory_stats": lambda device=None: None,
        "get_device_properties": lambda device=None: SimpleNamespace(total_memory=MEMORY),
        "set_per_process_memory_fraction": lambda share, device=None: None, "set_device": lambda device: None,
    }  # fmt: skip
    overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as inside:
        for name, value in cuda.items():
            inside.enter_context(mock.patch.object(torch.cuda, name, value))
        inside.enter_context(mock.patch.object(torch, "Generator", _Generator))
        inside.enter_context(mock.patch.object(torch.Tensor, "pin_memory", _pinned))
        inside.enter_context(mock.patch.object(torch.Tensor, "is_pinned", lambda *_: False))
        inside.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwritten)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        inside.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())  # type: ignore[attr-defined]
        torch._C._set_only_lift_cpu_tensors(True)  # type: ignore[attr-defined]
        inside.enter_context(mock.patch.object(threading.Thread, "run", _run_there))
        inside.enter_context(Device())
        inside.enter_context(Renamed())
        yield
