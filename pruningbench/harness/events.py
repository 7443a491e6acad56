"""What an executor tells the driver, and the driver an observer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pruningbench.store.records import Record, Status
from pruningbench.suite.plan import Cell, TaskRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class CellJob:
    """A cell with the tasks that are still to run on it.

    Attributes:
        cell: what to make.
        tasks: what to measure.
        attempts: label of a task -> how often it has been tried before.
    """

    cell: Cell
    tasks: tuple[TaskRun, ...]
    attempts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """Work on a step of a cell begins: "prepare", or the label of a task."""

    job: CellJob
    name: str


@dataclass(frozen=True)
class Prepared:
    """A cell's model is pruned and trained.

    Attributes:
        masks: its masks; None for the dense model.
        seconds: how long it took.
    """

    job: CellJob
    masks: Masks | None
    seconds: float


@dataclass(frozen=True)
class TaskDone:
    """A task has ended on a cell, well or not.

    Attributes:
        records: its journal lines, at least one.
        samples: ``variant|metric`` -> per-sample values.
        exhibits: variant -> samples for figures, as they are stored.
    """

    job: CellJob
    task: str
    records: tuple[Record, ...]
    samples: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    exhibits: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """How it ended: ok only if all of it did."""
        return self.outcome.status

    @property
    def outcome(self) -> Record:
        """The first line that is not ok, or the first of all."""
        return next((record for record in self.records if record.status != "ok"), self.records[0])


@dataclass(frozen=True)
class CellDone:
    """All pending tasks of a cell have ended."""

    job: CellJob


Event = Step | Prepared | TaskDone | CellDone


class Observer:
    """Watches a run; everything the driver has to say to a person goes through here.

    This one says nothing; subclasses override what they want to hear.
    """

    def started(self, cells: int, done: int, tasks: int) -> None:
        """`cells` in all, `done` of them before this run; `tasks` task runs are pending."""

    def cell_started(self, cell: Cell) -> None:
        """Work on a cell begins."""

    def note(self, message: str) -> None:
        """Progress within a cell ("epoch 2/12")."""

    def task_done(self, cell: Cell, task: str, record: Record) -> None:
        """A task has ended; `record` is its first journal line that is not ok, or the first of all."""

    def cell_done(self, cell: Cell, *, ok: bool) -> None:
        """A cell has ended."""

    def warn(self, message: str) -> None:
        """Something a person should know."""

    def finished(self) -> None:
        """The run has ended or was interrupted."""
