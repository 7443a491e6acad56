"""TensorBoard: a curve over sparsity for each metric, and a line for each model, pruner, recipe and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pruningbench.contract import CellInfo, RunInfo, hookimpl
from pruningbench_observers.values import library, values_of

PER_MILLE = 1000


class TensorBoard:
    """TensorBoard: event files in ``tensorboard/`` of the run folder.

    ``tensorboard --logdir RUN/tensorboard`` shows a curve over sparsity for each metric. Steps are sparsities in per
    mille. Values of an earlier, interrupted run are in files of their own.
    """

    def __init__(self) -> None:
        self._writer_class = library("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writers: dict[str, Any] = {}

    @hookimpl
    def pruningbench_task_done(
        self, run: RunInfo, cell: CellInfo, task: str, records: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add the values of a task."""
        line = f"{cell.model} {cell.pruner} {cell.recipe} seed {cell.seed}".replace("/", "-")
        if line not in self._writers:
            self._writers[line] = self._writer_class(str(run.folder / "tensorboard" / line))
        for name, value in values_of(task, records):
            self._writers[line].add_scalar(name, value, round(cell.sparsity * PER_MILLE))

    @hookimpl
    def pruningbench_run_done(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
