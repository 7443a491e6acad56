"""The machine: which device a name stands for, and how much memory it has."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.errors import UsageError

if TYPE_CHECKING:
    import torch

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may use."""


def resolve_device(name: str) -> torch.device:
    """Return the device that a name stands for; ``auto`` is a GPU if there is one.

    Raises:
        UsageError: if there is no such device on this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: unknown device (cpu, cuda, cuda:0, mps or auto)") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this machine has no Metal device")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device {name}: only cpu, cuda and mps are supported")
    return device


def device_name(device: torch.device | str) -> str:
    """Return the name of a GPU, or what is known of the processor."""
    import torch

    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine() or sys.platform


def device_memory(device: torch.device) -> int | None:
    """Return the memory of a device in bytes, used or not; None if unknown."""
    import torch

    if device.type == "cuda":
        if not torch.cuda.is_available():
            return None  # a GPU of another machine
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return main_memory()


def main_memory() -> int | None:
    """Return the memory of this machine, or of the container around this process, in bytes; None if unknown."""
    limits = [limit for limit in map(_limit, _LIMITS) if limit is not None]
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def _limit(path: str) -> int | None:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" if there is no limit


def give_memory_back() -> None:
    """Give memory that this process has freed back to the system, where the C library can (glibc).

    A heap from which large and small pieces come and go for hours has ever more holes that it does not give back.
    """
    if sys.platform.startswith("linux"):
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
