"""Classification, and how pruning changes the features that other tasks build on.

Tasks: ``classification``, ``calibration``, ``transfer``, ``few-shot``, ``ridge-zero-shot``, ``fine-tune-transfer``,
``dense-similarity``, ``corruption-robustness`` and ``efficiency``, with their metrics, and the model
``ridge-headed``. The functions below work without the harness; they are loaded on first access.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pruningbench.contract import Register, RegisterFunction, hookimpl

if TYPE_CHECKING:
    from pruningbench.pruning.counting import Macs, count_macs
    from pruningbench_transfer.calibration import Reliability, expected_calibration_error, reliability
    from pruningbench_transfer.corruptions import corrupt
    from pruningbench_transfer.episodes import draw_episodes, prototype_scores
    from pruningbench_transfer.neighbours import knn_predict, knn_scores
    from pruningbench_transfer.probe import linear_probe
    from pruningbench_transfer.ridge import RidgeHead, ridge_head
    from pruningbench_transfer.similarity import linear_cka

__all__ = [
    "Macs",
    "Reliability",
    "RidgeHead",
    "corrupt",
    "count_macs",
    "draw_episodes",
    "expected_calibration_error",
    "knn_predict",
    "knn_scores",
    "linear_cka",
    "linear_probe",
    "prototype_scores",
    "reliability",
    "ridge_head",
]

_HOMES = {
    "Macs": "pruningbench.pruning.counting",
    "Reliability": "pruningbench_transfer.calibration",
    "RidgeHead": "pruningbench_transfer.ridge",
    "corrupt": "pruningbench_transfer.corruptions",
    "count_macs": "pruningbench.pruning.counting",
    "draw_episodes": "pruningbench_transfer.episodes",
    "expected_calibration_error": "pruningbench_transfer.calibration",
    "knn_predict": "pruningbench_transfer.neighbours",
    "knn_scores": "pruningbench_transfer.neighbours",
    "linear_cka": "pruningbench_transfer.similarity",
    "linear_probe": "pruningbench_transfer.probe",
    "prototype_scores": "pruningbench_transfer.episodes",
    "reliability": "pruningbench_transfer.calibration",
    "ridge_head": "pruningbench_transfer.ridge",
}


pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_models(register: Register) -> None:
    """Register the model."""
    register("ridge-headed", "pruningbench_transfer.models:RidgeHeaded")


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    """Register the tasks."""
    register("classification", "pruningbench_transfer.tasks:Classification")
    register("calibration", "pruningbench_transfer.tasks:Calibration")
    register("transfer", "pruningbench_transfer.tasks:Transfer")
    register("few-shot", "pruningbench_transfer.tasks:FewShot")
    register("ridge-zero-shot", "pruningbench_transfer.zero_shot:RidgeZeroShot")
    register("fine-tune-transfer", "pruningbench_transfer.finetuning:FineTuneTransfer")
    register("dense-similarity", "pruningbench_transfer.comparison:DenseSimilarity")
    register("corruption-robustness", "pruningbench_transfer.robustness:CorruptionRobustness")
    register("efficiency", "pruningbench_transfer.efficiency:Efficiency")


@hookimpl
def pruningbench_register_metrics(register: Register) -> None:
    """Register the metrics."""
    register("accuracy", "pruningbench_transfer.metrics:Accuracy")
    register("ece", "pruningbench_transfer.metrics:CalibrationError")
    register("nll", "pruningbench_transfer.metrics:NegativeLogLikelihood")
    register("brier", "pruningbench_transfer.metrics:BrierScore")
    register("linear-cka", "pruningbench_transfer.metrics:LinearCka")
    register("neuron-similarity", "pruningbench_transfer.metrics:NeuronSimilarity")
    register("parameters", "pruningbench_transfer.costs:Parameters")
    register("nonzero-parameters", "pruningbench_transfer.costs:NonzeroParameters")
    register("dense-flops", "pruningbench_transfer.costs:DenseFlops")
    register("effective-flops-theoretical", "pruningbench_transfer.costs:EffectiveFlops")
    register("measured-latency", "pruningbench_transfer.costs:MeasuredLatency")
    register("measured-speedup", "pruningbench_transfer.costs:MeasuredSpeedup")
    register("measured-peak-memory", "pruningbench_transfer.costs:MeasuredPeakMemory")


@hookimpl
def pruningbench_register_statements(register: RegisterFunction) -> None:
    """Register the claims of the transfer paper."""
    register("transfer-claims", "pruningbench_transfer.statements:transfer_claims")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
