"""The driver: decides what is still to do, and alone writes what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.errors import PruningBenchError
from pruningbench.harness.attempts import DeathWatch
from pruningbench.harness.events import CellDone, CellJob, Event, Observer, Prepared, Step, TaskDone
from pruningbench.harness.supervisor import check_interrupt
from pruningbench.store.journal import Journal, latest
from pruningbench.store.records import Record, Status
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import is_damaged, write_arrays
from pruningbench.suite.plan import Cell, Plan, TaskRun
from pruningbench.version import __version__

if TYPE_CHECKING:
    from pruningbench.pruning.masks import Masks

Execute = Callable[[Iterable[CellJob]], Iterable[Event]]


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        cells: cells of the plan.
        computed: task runs done now.
        resumed: task runs that were done before.
        not_ok: the first record of each task run that is not ok.
        pending: task runs that are still to do; none after a run that ended in good order.
    """

    cells: int
    computed: int
    resumed: int
    not_ok: tuple[Record, ...]
    pending: int = 0

    @property
    def ok(self) -> bool:
        """Whether every task of every cell is ok."""
        return not self.not_ok and not self.pending


TaskKey = tuple[str, str]
"""(cell, label of the task)."""


def failures(plan: Plan, records: Iterable[Record]) -> dict[TaskKey, int]:
    """Return each task run of the plan that is not ok, with its number of attempts so far."""
    return {(record.cell, record.task): record.attempts for record in not_ok(plan, records)}


def damaged(folder: RunFolder, records: Iterable[Record]) -> dict[TaskKey, Path]:
    """Return the finished task runs whose per-sample values can no longer be read, each with the file."""
    keys = dict.fromkeys((record.cell, record.task) for record in latest(records) if record.status == "ok")
    files = {key: folder.samples_file(*key) for key in keys}
    return {key: file for key, file in files.items() if is_damaged(file)}


def pending(
    plan: Plan,
    records: Iterable[Record],
    retry: Mapping[TaskKey, int] | None = None,
    again: Collection[TaskKey] = (),
) -> list[CellJob]:
    """Return what is still to do: the cells with the tasks the journal does not hold.

    Args:
        plan: all there is to do.
        records: the journal.
        retry: task runs to try again, with the attempts they have had: one that has had another since
            is not tried a third time.
        again: finished task runs to measure again.
    """
    attempts: dict[TaskKey, int] = {}
    not_ok: set[TaskKey] = set()
    for record in latest(records):
        key = (record.cell, record.task)
        attempts[key] = record.attempts
        if record.status != "ok":
            not_ok.add(key)
    tried_again = {key for key in not_ok if (retry or {}).get(key) == attempts[key]}
    settled = set(attempts) - set(again) - tried_again
    jobs = []
    for cell in plan.cells:
        name = cell.key
        tasks = tuple(run for run in plan.tasks if (name, run.label) not in settled)
        if tasks:
            tried = {run.label: attempts.get((name, run.label), 0) for run in tasks}
            jobs.append(CellJob(cell, tasks, tried))
    return jobs


def not_ok(plan: Plan, records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the first record of each task run of the plan whose last attempt is not ok."""
    wanted = {(cell.key, run.label) for cell in plan.cells for run in plan.tasks}
    first: dict[TaskKey, Record] = {}
    for record in latest(records):
        if record.status != "ok" and (record.cell, record.task) in wanted:
            first.setdefault((record.cell, record.task), record)
    return tuple(first.values())


class Driver:
    """Runs what is pending in a plan and keeps the run folder.

    Args:
        plan: what to do.
        folder: where the results go; created, locked and of this suite.
        observer: is told what happens.
    """

    def __init__(self, plan: Plan, folder: RunFolder, observer: Observer) -> None:
        self.plan, self.folder, self.observer = plan, folder, observer
        self.journal = Journal(folder.results)
        self.deaths = DeathWatch(folder.running)
        self._remarked: set[tuple[str, str, str]] = set()

    def jobs(self, retry: Mapping[TaskKey, int] | None = None) -> list[CellJob]:
        """Return what is still to do, after recording cells that keep killing their process."""
        unreadable = damaged(self.folder, self.journal.records)
        for file in unreadable.values():
            self.observer.warn(f"{file}: is damaged; what it belongs to is measured again")
        jobs = pending(self.plan, self.journal.records, retry, unreadable)
        crashed = self.deaths.crashed
        if crashed is None:
            return jobs
        for job in jobs:
            if job.cell.key == crashed[0]:
                self._record_crash(job, crashed[1])
        self.deaths.leave()
        return pending(self.plan, self.journal.records, retry, damaged(self.folder, self.journal.records))

    def _record_crash(self, job: CellJob, step: str) -> None:
        """Record as crashed the task that killed its process; all of them if preparing the model did."""
        for run in job.tasks:
            if step not in ("prepare", run.label):
                continue
            error = f"{self.deaths.verdict} at step {step!r} of this cell"
            self.journal.append([_without_values(self.plan.suite.name, job, run, "crashed", error)])

    def note(self, message: str) -> None:
        """Pass on a progress note; progress within a step also clears it of earlier deaths."""
        self.deaths.note(message)
        self.observer.note(message)

    def run(self, jobs: Sequence[CellJob], execute: Execute) -> Summary:
        """Execute the jobs and write what comes of them; interrupted, all finished tasks are safe.

        Raises:
            PruningBenchError: if the run folder can no longer be written.
            KeyboardInterrupt: passed on after tidying up.
        """
        computed = 0
        resumed = len(self.plan.cells) * len(self.plan.tasks) - sum(len(job.tasks) for job in jobs)
        self.observer.started(len(self.plan.cells), len(self.plan.cells) - len(jobs), sum(len(j.tasks) for j in jobs))
        failed: set[str] = set()
        try:
            for event in execute(jobs):
                check_interrupt()
                computed += isinstance(event, TaskDone)
                self._handle(event, failed)
        except OSError as error:
            raise PruningBenchError(
                f"{self.folder.path}: cannot be written ({error}); finished tasks are safe: "
                "make room and run the same command again"
            ) from error
        finally:
            self.observer.finished()
            self.deaths.leave()
            self.journal.close()
        return Summary(len(self.plan.cells), computed, resumed, not_ok(self.plan, self.journal.records))

    def _handle(self, event: Event, failed: set[str]) -> None:
        cell = event.job.cell
        match event:
            case Step(name=name):
                if name == "prepare":
                    self.observer.cell_started(cell)
                self.deaths.enter(cell.key, name)
            case Prepared(masks=masks):
                if masks is not None:
                    self._keep_masks(cell, masks)
            case TaskDone(task=task, records=records):
                self._write_arrays(event, cell)
                self.journal.append(records)
                if event.status != "ok":
                    failed.add(cell.key)
                self._tell(cell, records)
                self.observer.task_done(cell, task, event.outcome)
            case CellDone():
                self.observer.cell_done(cell, ok=cell.key not in failed)

    def _tell(self, cell: Cell, records: Sequence[Record]) -> None:
        """Warn of what the records note, and once for each model, task and variant of degenerate outputs."""
        if records[0].notes:
            self.observer.warn(f"{cell.label}: {records[0].notes}")
        for record in records:
            where = (record.model, record.task, record.variant)
            if record.degenerate and where not in self._remarked:
                self._remarked.add(where)
                variant = f" ({record.variant})" if record.variant else ""
                self.observer.warn(f"{cell.label}, {record.task}{variant}: {record.remarks}")

    def _keep_masks(self, cell: Cell, masks: Masks) -> None:
        """Store a cell's masks with the figures of what they leave, and warn of layers they leave nothing of."""
        from pruningbench.pruning.diagnostics import collapse, mask_summary

        emptied = collapse(masks, cell.sparsity)
        if emptied:
            self.observer.warn(f"{cell.label}: {emptied}")
        if masks.provenance.get("undecided"):
            self.observer.warn(f"{cell.label}: {masks.provenance['undecided']}")
        masks.provenance["diagnosis"] = mask_summary(masks)
        masks.save(self.folder.mask_file(cell.key))

    def _write_arrays(self, event: TaskDone, cell: Cell) -> None:
        """Write what lies beside the journal first: a finished task has all its files."""
        if event.samples:
            write_arrays(self.folder.samples_file(cell.key, event.task), event.samples)
        for variant, arrays in event.exhibits.items():
            write_arrays(self.folder.exhibit_file(cell.key, event.task, variant), arrays)


def skipping(execute: Execute, refused: Mapping[str, str], suite: str) -> Execute:
    """Return what records the jobs of refused cells as skipped and executes all others.

    Args:
        execute: runs jobs.
        refused: key of a cell -> why it cannot be made, in one line.
        suite: name of the suite, for the records.
    """

    def run(jobs: Iterable[CellJob]) -> Iterator[Event]:
        left = []
        for job in jobs:
            reason = refused.get(job.cell.key)
            if reason is None:
                left.append(job)
                continue
            yield Step(job, "prepare")
            for task in job.tasks:
                yield TaskDone(job, task.label, (_without_values(suite, job, task, "skipped", reason),))
            yield CellDone(job)
        yield from execute(left)

    return run


def _without_values(suite: str, job: CellJob, run: TaskRun, status: Status, error: str) -> Record:
    """Return the record of a task that was not run."""
    cell = job.cell
    return Record(
        suite=suite, cell=cell.key, model=cell.model.label, pruner=cell.pruner_label,
        recipe=cell.recipe.label, sparsity=cell.sparsity, seed=cell.seed, task=run.label,
        status=status, error=error, attempts=job.attempts.get(run.label, 0) + 1, pruningbench_version=__version__,
        plugin=run.task.plugin, plugin_version=run.task.plugin_version,
    )  # fmt: skip
