"""The driver: decides what is left to do, and is the only writer of the results."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.contract.executor import JobLost, JobNote
from pruningbench.errors import PruningBenchError
from pruningbench.harness.artifacts import METRIC, Contents, code_parts
from pruningbench.harness.attempts import DeathWatch
from pruningbench.harness.events import CellDone, CellJob, CellPrepared, Event, Step, TaskDone
from pruningbench.harness.losses import Losses
from pruningbench.harness.observing import Observers
from pruningbench.harness.resume import PartsOf, State, TaskKey, assess
from pruningbench.harness.supervisor import check_interrupt
from pruningbench.store.attempts import Attempt, last_attempts
from pruningbench.store.journal import Journal
from pruningbench.store.records import Record, Status
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import is_damaged, read_arrays, write_arrays
from pruningbench.store.weights import write_weights
from pruningbench.suite.cells import Cell, TaskRun, plan_key
from pruningbench.suite.plan import Plan
from pruningbench.version import __version__

if TYPE_CHECKING:
    from pruningbench.pruning.masks import Masks

RunJobs = Callable[[Iterable[CellJob]], Iterable[Event | JobLost | JobNote]]
"""The work of an executor: it takes jobs and yields events."""


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        cells: number of cells in the plan.
        computed: number of task runs done in this run.
        resumed: number of task runs that were done before.
        not_ok: the first record of each task run that is not ok.
        pending: number of task runs left to do; 0 after a run that ended normally.
        faults: one line for each process that was lost in this run, whether or not its cell succeeded later.
    """

    cells: int
    computed: int
    resumed: int
    not_ok: tuple[Record, ...]
    pending: int = 0
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every task of every cell is ok."""
        return not self.not_ok and not self.pending


def failures(plan: Plan, attempts: Iterable[Attempt]) -> dict[TaskKey, int]:
    """Return each task run of the plan that is not ok, with the number of attempts so far."""
    return {(record.cell, record.task): record.attempts for record in not_ok(plan, attempts)}


def damaged(folder: RunFolder, attempts: Iterable[Attempt]) -> dict[TaskKey, Path]:
    """Return the finished task runs whose per-sample values can no longer be read, each with its file."""
    files = {key: folder.samples_file(*key) for key, last in last_attempts(attempts).items() if last.some_ok}
    return {key: file for key, file in files.items() if is_damaged(file)}


def not_ok(plan: Plan, attempts: Iterable[Attempt]) -> tuple[Record, ...]:
    """Return the first record of each task run of the plan whose last attempt is not ok."""
    failed = [(key, last) for key, last in last_attempts(attempts).items() if last.failed]
    if not failed:
        return ()
    planned = {(cell.key, run.label) for cell in plan.cells for run in plan.tasks_of(cell)}
    return tuple(next(r for r in last.lines if r.status != "ok") for key, last in failed if key in planned)


class Driver:
    """Runs the pending part of a plan and maintains the run folder.

    Args:
        plan: what to run.
        folder: where the results go; it exists, is locked and belongs to this suite.
        observers: the observing hooks of all plugins.
        isolated: whether the jobs run in other processes, so that a death of this one is no cell's fault.

    Attributes:
        contents: what the workers have learnt about the content of models and data sets.
        learn: called with what the journal says of each task when it is stored.
    """

    def __init__(self, plan: Plan, folder: RunFolder, observers: Observers, *, isolated: bool = False) -> None:
        self.plan, self.folder, self.observers, self._isolated = plan, folder, observers, isolated
        self.contents = Contents()
        self._process = os.getpid()
        self._losses, self._again = Losses(), list[CellJob]()
        self._faults: list[str] = []
        self.journal = Journal(folder.results)
        self.deaths = DeathWatch(folder.running)
        self._reported: set[Path] = set()  # damaged files that have been reported
        self._remarked: set[tuple[str, str, str]] = set()
        self.learn: Callable[[Sequence[Attempt]], None] = lambda _attempts: None

    def state(self, parts_of: PartsOf = code_parts, retry: Mapping[TaskKey, int] | None = None) -> State:
        """Return what is left to do, after recording as crashed the cells that keep killing their process."""
        unreadable = damaged(self.folder, self.journal.attempts)
        for file in unreadable.values():
            if file not in self._reported:
                self.observers.warn(f"{file}: is damaged; its task is measured again")
        self._reported |= set(unreadable.values())
        state = assess(self.plan, self.journal.attempts, parts_of, retry, unreadable)
        crashed = self.deaths.crashed
        if crashed is None:
            return state
        for job in state.jobs:
            if job.cell.key == crashed[0]:
                self._record_crash(job, crashed[1])
        self.deaths.leave()
        return assess(self.plan, self.journal.attempts, parts_of, retry, damaged(self.folder, self.journal.attempts))

    def _record_crash(self, job: CellJob, step: str) -> None:
        """Record the task that killed its process as crashed; record all tasks if preparing the model killed it."""
        for run in job.tasks:
            if step not in ("prepare", run.label):
                continue
            error = f"{self.deaths.verdict} at step {step!r} of this cell"
            self.journal.append([_without_values(self.plan.suite.name, job, run, "crashed", error)])

    def note(self, message: str) -> None:
        """Pass on a progress note; progress within a step also clears the step of earlier deaths."""
        if not self._isolated:
            self.deaths.note(message)
        self.observers.note(message)

    def run(self, jobs: Sequence[CellJob], execute: RunJobs) -> Summary:
        """Execute the jobs and write their results; finished tasks survive an interruption.

        Raises:
            PruningBenchError: if the run folder can no longer be written or no longer exists.
            KeyboardInterrupt: re-raised after cleaning up.
        """
        computed = 0
        resumed = self.plan.task_runs() - sum(len(job.tasks) for job in jobs)
        self.observers.started(len(self.plan.cells) - len(jobs), sum(len(job.tasks) for job in jobs))
        failed: set[str] = set()
        to_do = list(jobs)
        try:
            while to_do:
                self._again = []
                for event in execute(to_do):
                    check_interrupt()
                    computed += self._pass_on(event, failed)
                to_do = self._again
        except OSError as error:
            self.journal.check()  # a folder that is gone cannot be written either, and is said as such
            raise PruningBenchError(
                f"{self.folder.path}: cannot be written ({error}); finished tasks are safe: "
                "make room and run the same command again"
            ) from error
        finally:
            self.observers.done(ok=computed == sum(len(job.tasks) for job in jobs) and not failed)
            self.deaths.leave()
            self.journal.close()
        bad = not_ok(self.plan, self.journal.attempts)
        return Summary(len(self.plan.cells), computed, resumed, bad, faults=tuple(self._faults))

    def _pass_on(self, event: Event | JobLost | JobNote, failed: set[str]) -> int:
        """Handle what an executor yields; return the number of task runs that ended with it."""
        if os.getpid() != self._process:
            os._exit(0)  # a copy of this process, which a component forked and let return into the harness
        if isinstance(event, JobNote):
            self.note(event.message)
            return 0
        if isinstance(event, JobLost):
            return self._lose(event, failed)
        self._handle(event, failed)
        return int(isinstance(event, TaskDone))

    def _lose(self, lost: JobLost, failed: set[str]) -> int:
        """Record the task that lost its process if it is not tried again; return the number of tasks recorded."""
        job: CellJob = lost.job
        verdict = self._losses.lost(job, lost.reason, timed_out=lost.timed_out)
        fate = "recorded" if verdict.condemned else "trying again"
        fault = f"{job.cell.label}: the process {lost.reason} at step {verdict.step!r}; {fate}"
        self._faults.append(fault)
        self.observers.warn(fault)
        for run in verdict.condemned:
            record = _without_values(self.plan.suite.name, job, run, verdict.status, verdict.error)
            self._handle(TaskDone(job, run.label, (record,)), failed)
        if verdict.again is not None:
            self._again.append(verdict.again)
        else:
            self._handle(CellDone(job), failed)
        return len(verdict.condemned)

    def _handle(self, event: Event, failed: set[str]) -> None:
        cell = event.job.cell
        self.journal.check()  # before writing anything into a folder that may have been deleted
        match event:
            case Step(name=name):
                if name == "prepare":
                    self.observers.cell_started(cell)
                self._losses.began(event.job, name)
                if not self._isolated:
                    self.deaths.enter(cell.key, name)
            case CellPrepared(masks=masks, weights=weights):
                if masks is not None:
                    self._keep_masks(cell, masks)
                if weights is not None:
                    write_weights(self.folder.weights_file(cell.key), weights, cell.label)
            case TaskDone(task=task, records=records):
                unchanged = event.job.kept.get(task, ())
                self._write_arrays(event, cell, {line.metric for line in unchanged})
                attempt = self.journal.append(_merged(unchanged, records) if unchanged else records)
                self._losses.done(event.job, task)
                self.learn([attempt])
                if event.status != "ok":
                    failed.add(cell.key)
                self._report(cell, records)
                self.observers.task_done(cell, task, records)
            case CellDone(contents=contents):
                if contents is not None:
                    self.contents.models |= contents.models
                    self.contents.data |= contents.data
                self.observers.cell_done(cell, ok=cell.key not in failed)

    def _report(self, cell: Cell, records: Sequence[Record]) -> None:
        """Warn about notes in the records, and about degenerate outputs once per model, task and variant."""
        if records[0].notes:
            self.observers.warn(f"{cell.label}: {records[0].notes}")
        for record in records:
            where = (record.model, record.task, record.variant)
            if record.degenerate and where not in self._remarked:
                self._remarked.add(where)
                variant = f" ({record.variant})" if record.variant else ""
                self.observers.warn(f"{cell.label}, {record.task}{variant}: {record.remarks}")

    def _keep_masks(self, cell: Cell, masks: Masks) -> None:
        """Store a cell's masks with a summary of the remaining weights, and warn about layers pruned entirely."""
        from pruningbench.pruning.diagnostics import collapse, mask_summary

        emptied = collapse(masks, cell.sparsity)
        if emptied:
            self.observers.warn(f"{cell.label}: {emptied}")
        if masks.provenance.get("undecided"):
            self.observers.warn(f"{cell.label}: {masks.provenance['undecided']}")
        masks.with_provenance(diagnosis=mask_summary(masks)).save(self.folder.mask_file(cell.key))

    def _write_arrays(self, event: TaskDone, cell: Cell, unchanged: Collection[str]) -> None:
        """Write the arrays before the journal, so that a finished task has all its files.

        Args:
            event: holds the new values.
            cell: the cell that the values belong to.
            unchanged: metrics whose values are already in the file and stay there.
        """
        if event.samples:
            file = self.folder.samples_file(cell.key, event.task)
            before = read_arrays(file) if unchanged and file.exists() else {}
            # arrays are named ``variant|metric``; the keys of a variant's samples have no "|" and serve all metrics
            stay = {name: array for name, array in before.items() if "|" not in name or name.split("|")[1] in unchanged}
            write_arrays(file, {**stay, **event.samples})
        for variant, arrays in event.exhibits.items():
            write_arrays(self.folder.exhibit_file(cell.key, event.task, variant), arrays)


def _merged(unchanged: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """Return the records of a task that was rerun for some metrics, after the kept records of its other metrics."""
    requested = {}
    if new[0].status == "ok":
        requested = {name: text for name, text in new[0].made_of.items() if name.startswith(METRIC)}
    lines = [
        replace(r, made_of={**r.made_of, **requested} if r.made_of else {}, attempts=new[0].attempts) for r in unchanged
    ]
    lines += [record for record in new if record.metric or record.status != "ok"]
    if not requested:
        return lines
    labels = [name.removeprefix(METRIC) for name in {**unchanged[0].made_of, **requested} if name.startswith(METRIC)]
    nothing = ", ".join(label for label in labels if label not in {line.metric for line in lines})
    return [replace(line, inapplicable=nothing) for line in lines]


def skipping(execute: RunJobs, refused: Mapping[str, str], suite: str) -> RunJobs:
    """Return a function that records the jobs of refused cells as skipped and executes all others.

    Args:
        execute: runs jobs.
        refused: key of a cell -> why the cell cannot be made, in one line.
        suite: name of the suite, for the records.
    """

    def run(jobs: Iterable[CellJob]) -> Iterator[Event | JobLost | JobNote]:
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


def checking(execute: RunJobs, checks: Sequence[Callable[[], None]]) -> RunJobs:
    """Return a function that executes jobs, and makes the checks before each event is passed on."""

    def run(jobs: Iterable[CellJob]) -> Iterator[Event | JobLost | JobNote]:
        for event in execute(jobs):
            for check in checks:
                check()
            yield event

    return run


def _without_values(suite: str, job: CellJob, run: TaskRun, status: Status, error: str) -> Record:
    """Return the record of a task that was not run."""
    cell = job.cell
    return Record(
        suite=suite, cell=cell.key, model=cell.model.label, pruner=cell.pruner_label,
        recipe=cell.recipe.label, sparsity=cell.sparsity, seed=cell.seed, task=run.label,
        status=status, error=error, attempts=job.attempts.get(run.label, 0) + 1, pruningbench_version=__version__,
        plugin=run.task.plugin, plugin_version=run.task.plugin_version, plan=plan_key(cell, run),
        limit=cell.limit or 0, made_of=code_parts(cell, run) if status == "skipped" else {},
    )  # fmt: skip
