"""The events that an executor sends to the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pruningbench.store.records import Record, Status
from pruningbench.suite.cells import Cell, TaskRun
from pruningbench.suite.shards import family_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from pruningbench.harness.artifacts import Contents
    from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class CellJob:
    """A cell with the tasks that are still to run on it.

    Attributes:
        cell: what to make.
        tasks: what to measure.
        attempts: label of a task -> how often it has been tried before.
        kept: label of a task -> measurements that stay when the task is rerun for some metrics only.
        before: label of a task that has values on this cell -> the task with all its metrics, and the hash of
            the network that was measured, or "".
    """

    cell: Cell
    tasks: tuple[TaskRun, ...]
    attempts: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, tuple[Record, ...]] = field(default_factory=dict)
    before: Mapping[str, tuple[TaskRun, str]] = field(default_factory=dict)

    @property
    def family(self) -> tuple[str, str]:
        """The model, and what is pruned and trained for all sparsities: executors keep such jobs together."""
        return family_of(self.cell)

    def for_network(self, network: str) -> CellJob:
        """Return this job for the network that was made; measurements of another network are repeated.

        A different network results when one that left the cache is trained again and its bits differ, as they can
        on GPUs. A cell never holds values of two networks.
        """
        other = {label: run for label, (run, measured) in self.before.items() if measured not in ("", network)}
        tasks = [other.get(run.label, run) for run in self.tasks]
        tasks += [run for label, run in other.items() if label not in {task.label for task in tasks}]
        kept = {label: lines for label, lines in self.kept.items() if label not in other}
        return replace(self, tasks=tuple(tasks), kept=kept, before={})


@dataclass(frozen=True)
class Step:
    """A step of a cell begins; its name is "prepare" or the label of a task."""

    job: CellJob
    name: str


@dataclass(frozen=True)
class CellPrepared:
    """A cell's model is pruned and trained.

    Attributes:
        masks: its masks; None for the dense model.
        seconds: how long pruning and training took.
        weights: all tensors of the pruned network, if the run folder keeps them.
    """

    job: CellJob
    masks: Masks | None
    seconds: float
    weights: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class TaskDone:
    """A task has ended on a cell, whether or not it succeeded.

    Attributes:
        records: its journal lines, at least one.
        samples: ``variant|metric`` -> per-sample values.
        exhibits: variant -> samples for figures, in stored form.
    """

    job: CellJob
    task: str
    records: tuple[Record, ...]
    samples: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    exhibits: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """How the task ended; "ok" only if every record is ok."""
        return self.outcome.status

    @property
    def outcome(self) -> Record:
        """The first record that is not ok, or the first record if all are ok."""
        return next((record for record in self.records if record.status != "ok"), self.records[0])


@dataclass(frozen=True)
class CellDone:
    """All pending tasks of a cell have ended.

    Attributes:
        contents: what the worker has learnt so far about the content of models and data sets.
    """

    job: CellJob
    contents: Contents | None = None


Event = Step | CellPrepared | TaskDone | CellDone
