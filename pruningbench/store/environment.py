"""Environment capture: what a result depends on besides the suite."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pruningbench.base.machine import device_name
from pruningbench.base.versions import package_version

PACKAGES = ("torch", "timm", "captum", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "pydantic", "pluggy")


def capture(*, device: str, seeds: Iterable[int], plugins: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
    """Describe the environment as plain JSON values.

    Args:
        device: the device that the run computes on.
        seeds: the suite's seeds.
        plugins: (plugin, distribution, version) of each loaded plugin.

    Returns:
        Versions of pruningbench, Python, packages and plugins; the commit of the source checkout and
        whether it has uncommitted changes (None when not installed from a checkout); the platform,
        the device's name, threads and seeds; and the time in UTC.
    """
    import torch

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "pruningbench": package_version("pruningbench"),
        "source": source_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "plugins": [{"name": n, "distribution": d, "version": v} for n, d, v in plugins],
        "device": device,
        "device_name": device_name(device),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "seeds": list(seeds),
    }


def source_state() -> dict[str, Any] | None:
    """Return the commit of the checkout that this code runs from, and whether it is dirty; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if _git(root, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # installed, even if inside somebody else's checkout
    commit, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--", root.parent.as_posix())
    return {"commit": commit.strip() if commit else None, "dirty": bool(status and status.strip())}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        process = subprocess.run(  # noqa: S603 - fixed program and arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - whichever git the user has
            capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout if process.returncode == 0 else None
