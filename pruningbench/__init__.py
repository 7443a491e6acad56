"""pruningbench: what does pruning do to a vision model's representation, beyond accuracy?

    import pruningbench as pb
    run = pb.run("quickstart", out="runs/first")
    table = pb.load_results("runs/first")

Names are loaded when first used, so that importing pruningbench imports neither torch nor a plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pruningbench.version import __version__

if TYPE_CHECKING:
    from pruningbench.api import Run, compare, load_results, load_weights, prune, run, score
    from pruningbench.contract import (
        ArraySamples,
        Attributions,
        Boxes,
        Context,
        Dataset,
        DatasetRef,
        Exhibit,
        Metric,
        Model,
        Outputs,
        Predictions,
        Preprocessing,
        Pruner,
        PruningContext,
        Sample,
        Samples,
        ScorePruner,
        Task,
        VisionModel,
        param,
    )
    from pruningbench.errors import CollapseWarning, PruningBenchError
    from pruningbench.evaluating import Evaluation, evaluate
    from pruningbench.hookspecs import hookimpl
    from pruningbench.pruning.diagnostics import Diagnosis, diagnose
    from pruningbench.pruning.masks import Masks
    from pruningbench.pruning.scope import Scope
    from pruningbench.training.recalibration import recalibrate

_HOMES = {
    "pruningbench.api": ("Run", "compare", "load_results", "load_weights", "prune", "run", "score"),
    "pruningbench.contract": (
        "ArraySamples", "Attributions", "Boxes", "Context", "Dataset", "DatasetRef", "Exhibit", "Metric",
        "Model", "Outputs", "Predictions", "Preprocessing", "Pruner", "PruningContext", "Sample", "Samples",
        "ScorePruner", "Task", "VisionModel", "param",
    ),
    "pruningbench.pruning.diagnostics": ("Diagnosis", "diagnose"),
    "pruningbench.errors": ("CollapseWarning", "PruningBenchError"),
    "pruningbench.evaluating": ("Evaluation", "evaluate"),
    "pruningbench.hookspecs": ("hookimpl",),
    "pruningbench.pruning.masks": ("Masks",),
    "pruningbench.training.recalibration": ("recalibrate",),
    "pruningbench.pruning.scope": ("Scope",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ArraySamples",
    "Attributions",
    "Boxes",
    "CollapseWarning",
    "Context",
    "Dataset",
    "DatasetRef",
    "Diagnosis",
    "Evaluation",
    "Exhibit",
    "Masks",
    "Metric",
    "Model",
    "Outputs",
    "Predictions",
    "Preprocessing",
    "Pruner",
    "PruningBenchError",
    "PruningContext",
    "Run",
    "Sample",
    "Samples",
    "Scope",
    "ScorePruner",
    "Task",
    "VisionModel",
    "__version__",
    "compare",
    "diagnose",
    "evaluate",
    "hookimpl",
    "load_results",
    "load_weights",
    "param",
    "prune",
    "recalibrate",
    "run",
    "score",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'pruningbench' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
