"""Unsupervised object discovery: boxes from a network's patch features, and how well they fit.

Registers the task ``discovery`` and the metrics ``corloc``, ``detection-rate``, ``best-iou`` and
``mask-iou``. These plain functions work without the harness: the methods `lost`, `tokencut`, `maskcut` and
`found_background`, and `corloc`, `best_iou` and `detections`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pruningbench.contract import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_discovery.background import found_background
    from pruningbench_discovery.iou import best_iou, corloc, detections
    from pruningbench_discovery.normalised_cut import maskcut, tokencut
    from pruningbench_discovery.seed_expansion import lost

__all__ = ["best_iou", "corloc", "detections", "found_background", "lost", "maskcut", "tokencut"]

_HOMES = {
    "best_iou": "pruningbench_discovery.iou",
    "corloc": "pruningbench_discovery.iou",
    "detections": "pruningbench_discovery.iou",
    "found_background": "pruningbench_discovery.background",
    "lost": "pruningbench_discovery.seed_expansion",
    "maskcut": "pruningbench_discovery.normalised_cut",
    "tokencut": "pruningbench_discovery.normalised_cut",
}


pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    """Register the task."""
    register("discovery", "pruningbench_discovery.task:Discovery")


@hookimpl
def pruningbench_register_metrics(register: Register) -> None:
    """Register the metrics."""
    register("corloc", "pruningbench_discovery.metrics:CorLoc")
    register("detection-rate", "pruningbench_discovery.metrics:DetectionRate")
    register("mask-iou", "pruningbench_discovery.metrics:MaskIoU")
    register("best-iou", "pruningbench_discovery.metrics:BestIoU")
    register("box-area", "pruningbench_discovery.extent:BoxArea")
    register("whole-image-rate", "pruningbench_discovery.extent:WholeImageRate")


@hookimpl
def pruningbench_register_discovery_methods(register: Register) -> None:
    """Register the methods."""
    register("lost", "pruningbench_discovery.methods:Lost")
    register("tokencut", "pruningbench_discovery.methods:TokenCut")
    register("maskcut", "pruningbench_discovery.methods:MaskCut")
    register("found", "pruningbench_discovery.methods:Found")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
