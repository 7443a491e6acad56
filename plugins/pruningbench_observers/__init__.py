"""Observers that pass the values of a run on to TensorBoard, Weights & Biases and MLflow."""

from __future__ import annotations

from pruningbench.contract import RegisterFunction, hookimpl

pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_observers(register: RegisterFunction) -> None:
    """Register the observers; each imports its library when a run begins."""
    register("tensorboard", "pruningbench_observers.tensorboard:TensorBoard")
    register("wandb", "pruningbench_observers.weights_and_biases:WeightsAndBiases")
    register("mlflow", "pruningbench_observers.mlflow_runs:MlflowRuns")
