"""Imports a module and reports what that changes in the process; `imports` runs this file in a process of its own.

    python -P watch_import.py MODULE REPORT PRINTED [with-libraries]

It runs as a file, because importing the package of the checks would import torch.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

HEAVY = ("torch", "timm", "torchvision", "captum", "sklearn", "scipy", "pandas", "matplotlib", "tensorflow", "jax")
"""Modules that commands such as `list` do not need."""


def state() -> dict[str, Any]:
    """Return what a plugin must not change, by name; of libraries only those that are imported."""
    found: dict[str, Any] = {
        "the working folder": str(Path.cwd()),
        "the filters of warnings": list(map(str, warnings.filters)),
        "signal handlers": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)],
        "the state of `random`": hash(random.getstate()),
        "environment variables": sorted(os.environ.items()),
        "the recursion limit": sys.getrecursionlimit(),
        "threads that run": threading.active_count(),
    }
    torch, numpy, matplotlib = (sys.modules.get(name) for name in ("torch", "numpy", "matplotlib"))
    if torch is not None:
        found["the default type of torch"] = str(torch.get_default_dtype())
        found["the number of torch's threads"] = torch.get_num_threads()
        found["torch's random state"] = torch.get_rng_state().tolist()
        found["whether torch records gradients"] = torch.is_grad_enabled()
        found["torch's deterministic algorithms"] = torch.are_deterministic_algorithms_enabled()
    if numpy is not None and "numpy.random" in sys.modules:
        kind, keys, place, *_ = numpy.random.get_state()
        found["NumPy's random state"] = [kind, keys.tolist(), place]
    if matplotlib is not None:
        found["the backend of matplotlib"] = str(dict.__getitem__(matplotlib.rcParams, "backend"))
    return found


def main(module: str, report: str, printed: str, *libraries: str) -> None:
    """Import `module`, write the report, and end the process without running anything else of the module."""
    import pruningbench.contract
    import pruningbench.plugins  # noqa: F401 - what a plugin finds imported

    for name in ("torch", "numpy.random", "matplotlib") if libraries else ():
        importlib.import_module(name)
    before, modules = state(), set(sys.modules)
    os.dup2(os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    begun, error = time.perf_counter(), ""
    try:
        importlib.import_module(module)
    except BaseException as raised:  # noqa: BLE001 - a plugin may raise anything
        error = f"{type(raised).__name__}: {raised}"
    seconds = time.perf_counter() - begun
    sys.stdout.flush()
    after = state()
    changed = [name for name in before if before[name] != after[name]]
    loaded = [name for name in HEAVY if name in sys.modules and name not in modules]
    found = {"changed": changed, "loaded": loaded, "seconds": seconds, "error": error}
    Path(report).write_text(json.dumps(found), "utf-8")
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
