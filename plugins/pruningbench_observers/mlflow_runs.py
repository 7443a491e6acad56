"""MLflow: an experiment for each suite, a run for each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pruningbench.contract import CellInfo, RunInfo, hookimpl
from pruningbench_observers.values import library, values_of

_ALLOWED = "_-. /"
"""Characters that names of MLflow's metrics may have beside letters and digits."""


class MlflowRuns:
    """MLflow: an experiment for each suite, a run for each cell.

    They go to the tracking server of ``MLFLOW_TRACKING_URI``, else to MLflow's own default. The experiment is named
    ``pruningbench/SUITE``. Each run has model, pruner, recipe, sparsity and seed as parameters. A cell that was
    interrupted and is done again has two runs; the first is marked as killed.
    """

    def __init__(self) -> None:
        self._client: Any = library("mlflow", "mlflow").MlflowClient()
        self._experiment = ""
        self._open: dict[str, str] = {}

    @hookimpl
    def pruningbench_run_started(self, run: RunInfo) -> None:
        """Find the experiment, or make it."""
        name = f"pruningbench/{run.suite}"
        found = self._client.get_experiment_by_name(name)
        self._experiment = self._client.create_experiment(name) if found is None else found.experiment_id

    @hookimpl
    def pruningbench_cell_started(self, run: RunInfo, cell: CellInfo) -> None:
        """Begin the run of a cell."""
        tags = {"pruningbench.cell": cell.key, "pruningbench.folder": str(run.folder)}
        made = self._client.create_run(self._experiment, run_name=cell.label, tags=tags)
        self._open[cell.key] = made.info.run_id
        for name in ("model", "pruner", "recipe", "sparsity", "seed"):
            self._client.log_param(made.info.run_id, name, getattr(cell, name))

    @hookimpl
    def pruningbench_task_done(self, cell: CellInfo, task: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Log the values of a task."""
        for name, value in values_of(task, records):
            shown = "".join(c if c.isalnum() or c in _ALLOWED else "_" for c in name)
            self._client.log_metric(self._open[cell.key], shown, value)

    @hookimpl
    def pruningbench_cell_done(self, cell: CellInfo, ok: bool) -> None:
        """End the run of a cell."""
        self._client.set_terminated(self._open.pop(cell.key), "FINISHED" if ok else "FAILED")

    @hookimpl
    def pruningbench_run_done(self) -> None:
        """Mark cells that were interrupted."""
        for run_id in self._open.values():
            self._client.set_terminated(run_id, "KILLED")
        self._open.clear()
