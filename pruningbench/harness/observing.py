"""Tells observers what happens in a run, and survives their failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pruningbench.hookspecs import CellInfo, RunInfo
from pruningbench.plugins import Door
from pruningbench.store.records import Record
from pruningbench.suite.cells import Cell


def cell_info(cell: Cell) -> CellInfo:
    """Return what observers are told about a cell."""
    return CellInfo(
        cell.key, cell.label, cell.model.label, cell.pruner_label, cell.recipe.label, cell.sparsity, cell.seed
    )


class Observers:
    """Calls the observing hooks of all plugins.

    An observer that fails is named in one warning and not called again in this run.

    Args:
        door: the registry's door.
        run: what is known about the run before it starts.
    """

    def __init__(self, door: Door, run: RunInfo) -> None:
        self.door, self.run = door, run
        self.failed: dict[str, str] = {}

    def started(self, cells_before: int, task_runs: int) -> None:
        """Announce that the run begins."""
        self.run = replace(self.run, cells_before=cells_before, task_runs=task_runs)
        self._call("pruningbench_run_started")

    def cell_started(self, cell: Cell) -> None:
        """Announce that work on a cell begins."""
        self._call("pruningbench_cell_started", cell=cell_info(cell))

    def task_done(self, cell: Cell, task: str, records: Sequence[Record]) -> None:
        """Announce that a task has ended, whether or not it succeeded."""
        copies = tuple(dict(vars(record)) for record in records)
        self._call("pruningbench_task_done", cell=cell_info(cell), task=task, records=copies)

    def cell_done(self, cell: Cell, *, ok: bool) -> None:
        """Announce that a cell has ended."""
        self._call("pruningbench_cell_done", cell=cell_info(cell), ok=ok)

    def done(self, *, ok: bool) -> None:
        """Announce that the run has ended or was interrupted."""
        self._call("pruningbench_run_done", ok=ok)

    def note(self, message: str) -> None:
        """Pass on progress within a cell."""
        self._call("pruningbench_note", message=message)

    def warn(self, message: str) -> None:
        """Pass on a warning that the user should see."""
        self._call("pruningbench_warning", message=message)

    def _call(self, hook: str, **arguments: Any) -> None:
        failed: list[str] = []

        def report(plugin: str, how: str) -> None:
            self.failed[plugin] = how
            failed.append(f"observer {plugin!r} failed and is not called again in this run: {how}")

        self.door.tell(hook, report, self.failed, run=self.run, **arguments)
        for message in failed:
            self.warn(message)
