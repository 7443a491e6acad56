"""Classification accuracy, and how well frozen features carry over to other classes.

Registers the tasks ``classification`` and ``transfer`` and the metric ``accuracy``. Plain functions,
usable without the harness: `knn_predict`, `knn_scores`, `linear_probe`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pruningbench.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_transfer.neighbours import knn_predict, knn_scores
    from pruningbench_transfer.probe import linear_probe

__all__ = ["knn_predict", "knn_scores", "linear_probe"]

_HOMES = {
    "knn_predict": "pruningbench_transfer.neighbours",
    "knn_scores": "pruningbench_transfer.neighbours",
    "linear_probe": "pruningbench_transfer.probe",
}


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    """Register the tasks."""
    register("classification", "pruningbench_transfer.tasks:Classification")
    register("transfer", "pruningbench_transfer.tasks:Transfer")


@hookimpl
def pruningbench_register_metrics(register: Register) -> None:
    """Register the metric."""
    register("accuracy", "pruningbench_transfer.metrics:Accuracy")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
