"""Unsupervised object discovery: boxes from a network's patch features, and how well they fit.

Registers the task ``discovery`` and the metrics ``corloc`` and ``best-iou``. Plain functions, usable
without the harness: `lost`, `corloc`, `best_iou`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pruningbench.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_discovery.iou import best_iou, corloc
    from pruningbench_discovery.seed_expansion import lost

__all__ = ["best_iou", "corloc", "lost"]

_HOMES = {
    "best_iou": "pruningbench_discovery.iou",
    "corloc": "pruningbench_discovery.iou",
    "lost": "pruningbench_discovery.seed_expansion",
}


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    """Register the task."""
    register("discovery", "pruningbench_discovery.task:Discovery")


@hookimpl
def pruningbench_register_metrics(register: Register) -> None:
    """Register the metrics."""
    register("corloc", "pruningbench_discovery.metrics:CorLoc")
    register("best-iou", "pruningbench_discovery.metrics:BestIoU")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
