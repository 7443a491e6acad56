"""Alignment with people: whether pruned networks decide, confuse and compare as people do.

Registers the tasks ``model-vs-human``, ``odd-one-out``, ``nights``, ``soft-labels``, ``clickme`` and
``rsa`` with their metrics. These plain functions work without the harness: `error_consistency`,
`decisions_16`, `shape_bias`, `human_cross_entropy` and `odd_one_out`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pruningbench.contract import Register, hookimpl

if TYPE_CHECKING:
    from pruningbench_alignment.categories import decisions_16
    from pruningbench_alignment.consistency import error_consistency, shape_bias
    from pruningbench_alignment.softlabels import human_cross_entropy
    from pruningbench_alignment.triplets import odd_one_out

__all__ = ["decisions_16", "error_consistency", "human_cross_entropy", "odd_one_out", "shape_bias"]

_HOMES = {
    "decisions_16": "pruningbench_alignment.categories",
    "error_consistency": "pruningbench_alignment.consistency",
    "human_cross_entropy": "pruningbench_alignment.softlabels",
    "odd_one_out": "pruningbench_alignment.triplets",
    "shape_bias": "pruningbench_alignment.consistency",
}


pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    """Register the tasks."""
    register("model-vs-human", "pruningbench_alignment.decision_task:ModelVsHuman")
    register("odd-one-out", "pruningbench_alignment.tasks:OddOneOut")
    register("nights", "pruningbench_alignment.tasks:Nights")
    register("soft-labels", "pruningbench_alignment.tasks:SoftLabels")
    register("clickme", "pruningbench_alignment.tasks:ClickMe")
    register("rsa", "pruningbench_alignment.tasks:RepresentationalSimilarity")


@hookimpl
def pruningbench_register_metrics(register: Register) -> None:
    """Register the metrics."""
    register("decision-accuracy", "pruningbench_alignment.decision_metrics:DecisionAccuracy")
    register("accuracy-difference", "pruningbench_alignment.decision_metrics:AccuracyDifference")
    register("observed-consistency", "pruningbench_alignment.decision_metrics:ObservedConsistency")
    register("error-consistency", "pruningbench_alignment.decision_metrics:ErrorConsistency")
    register("shape-bias", "pruningbench_alignment.decision_metrics:ShapeBias")
    register("odd-one-out-accuracy", "pruningbench_alignment.metrics:OddOneOutAccuracy")
    register("two-alternative-agreement", "pruningbench_alignment.metrics:TwoAlternativeAgreement")
    register("human-cross-entropy", "pruningbench_alignment.metrics:HumanCrossEntropy")
    register("human-kl", "pruningbench_alignment.metrics:HumanDivergence")
    register("map-alignment", "pruningbench_alignment.metrics:MapAlignment")
    register("rsa-correlation", "pruningbench_alignment.metrics:SimilarityCorrelation")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
