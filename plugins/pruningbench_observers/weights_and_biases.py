"""Weights & Biases: one run of theirs for each run of ours, with a row for each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pruningbench.contract import CellInfo, RunInfo, hookimpl
from pruningbench_observers.values import library, values_of


class WeightsAndBiases:
    """Weights & Biases: a run with a row for each cell.

    It belongs to the project ``pruningbench``, or to that of ``WANDB_PROJECT``; ``WANDB_MODE=offline`` sends nothing.

    A cell is logged once, when its tasks are done, with its model, pruner, recipe, sparsity and seed beside its values.
    """

    def __init__(self) -> None:
        self._wandb = library("wandb", "wandb")
        self._run: Any = None
        self._values: dict[str, float] = {}

    @hookimpl
    def pruningbench_run_started(self, run: RunInfo) -> None:
        """Begin a run."""
        self._run = self._wandb.init(
            project=None if _stated("WANDB_PROJECT") else "pruningbench",
            name=run.folder.name,
            dir=str(run.folder),
            config={"suite": run.suite, "cells": run.cells, "cells_before": run.cells_before},
        )
        self._run.define_metric("*", step_metric="sparsity")

    @hookimpl
    def pruningbench_task_done(self, task: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep the values of a task until its cell is done."""
        self._values |= dict(values_of(task, records))

    @hookimpl
    def pruningbench_cell_done(self, cell: CellInfo) -> None:
        """Log a cell."""
        about = {name: getattr(cell, name) for name in ("model", "pruner", "recipe", "sparsity", "seed")}
        self._run.log({**about, **self._values})
        self._values = {}

    @hookimpl
    def pruningbench_run_done(self, ok: bool) -> None:
        """End the run; it is marked as failed if something is left to do."""
        if self._run is not None:
            self._run.finish(exit_code=0 if ok else 1)


def _stated(name: str) -> bool:
    import os

    return bool(os.environ.get(name))
