"""Resuming: which finished measurements of a run folder are still valid, and what is left to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pruningbench.harness.artifacts import METRIC, NETWORK, Parts, code_parts, differences
from pruningbench.harness.events import CellJob
from pruningbench.store.journal import latest
from pruningbench.store.records import Record
from pruningbench.suite.cells import Cell, TaskRun, plan_key
from pruningbench.suite.plan import Plan

TaskKey = tuple[str, str]
"""(key of the cell, label of the task)."""
PartsOf = Callable[[Cell, TaskRun], Parts]
"""Returns the known parts that a task on a cell would be made from now."""
VERSION = "version"
"""Stands for a changed component that is part of the plan but not of the compared parts."""
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{4,}\b")


@dataclass(frozen=True)
class Stale:
    """A finished task run that was made from other parts than the current ones.

    Attributes:
        cell, run: the cell and the task that were measured.
        lines: its records.
        changed: part -> (before, now).
    """

    cell: Cell
    run: TaskRun
    lines: tuple[Record, ...]
    changed: Mapping[str, tuple[str, str]]

    @property
    def failed(self) -> bool:
        """Whether any of it failed, so that it cannot be accepted."""
        return any(line.status != "ok" for line in self.lines)

    @property
    def words(self) -> str:
        """What changed, in one line."""
        return "; ".join(f"{name} {_short(was)} -> {_short(now)}" for name, (was, now) in self.changed.items())


@dataclass(frozen=True)
class State:
    """The state of a plan in a run folder.

    Attributes:
        jobs: what is left to do, including the stale task runs.
        stale: the task runs of `jobs` that are finished, but were made from other parts.
        unknown: number of finished task runs whose records do not say what they were made from.
    """

    jobs: tuple[CellJob, ...]
    stale: tuple[Stale, ...] = ()
    unknown: int = 0

    @property
    def task_runs(self) -> int:
        """Number of task runs left to do."""
        return sum(len(job.tasks) for job in self.jobs)


@dataclass
class _Cell:
    """What is left to do on one cell."""

    tasks: list[TaskRun] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    kept: dict[str, tuple[Record, ...]] = field(default_factory=dict)
    before: dict[str, tuple[TaskRun, str]] = field(default_factory=dict)


class Finished:
    """The last attempts in a journal, by what was requested.

    If the class of a component has a new `version`, its cell or task has a new key. Its measurements are then found by
    their plan key, which does not include versions.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._groups: dict[TaskKey, list[Record]] = {}
        for record in latest(records):
            self._groups.setdefault((record.cell, record.task), []).append(record)
        self._by_plan = {lines[0].plan: lines for lines in self._groups.values() if lines[0].plan}

    def __bool__(self) -> bool:
        """Whether anything has been tried."""
        return bool(self._groups)

    def lines(self, cell: Cell, run: TaskRun) -> tuple[Record, ...]:
        """Return the records of the last attempt at a task on a cell; none if it was never tried."""
        if not self._groups:
            return ()
        current, plan = self._groups.get((cell.key, run.label), []), plan_key(cell, run)
        if current and current[0].plan in ("", plan):
            return tuple(current)
        return tuple(self._by_plan.get(plan, []))

    def attempts(self, cell: Cell, run: TaskRun) -> int:
        """Return how often a task with this label has been tried on a cell."""
        group = self._groups.get((cell.key, run.label)) if self._groups else None
        return group[0].attempts if group else 0


def assess(
    plan: Plan,
    records: Iterable[Record],
    parts_of: PartsOf = code_parts,
    retry: Mapping[TaskKey, int] | None = None,
    again: Collection[TaskKey] = (),
) -> State:
    """Compare a journal with a plan and with the current components.

    Args:
        plan: everything that the run consists of.
        records: the journal.
        parts_of: returns what a task on a cell would be made from now; parts that it does not return are not compared.
        retry: task runs to try again, with their number of attempts so far; a task run that has been attempted
            since then is not tried again.
        again: finished task runs to measure again, whatever they were made from.
    """
    finished = Finished(records)
    if not finished:
        every = ((cell, plan.tasks_of(cell)) for cell in plan.cells)
        return State(tuple(CellJob(cell, runs) for cell, runs in every if runs))
    jobs, stale, unknown = [], [], 0
    for cell in plan.cells:
        to_do = _Cell()
        for run in plan.tasks_of(cell):
            lines = finished.lines(cell, run)
            to_do.attempts[run.label] = finished.attempts(cell, run)
            if not lines or (cell.key, run.label) in again:
                to_do.tasks.append(run)
                continue
            changed = differences({**lines[0].made_of, **lines[0].accepted}, parts_of(cell, run))
            if lines[0].cell != cell.key and not changed:
                changed = {VERSION: ("another", "this")}  # the component's code is in no part
            if changed:
                stale.append(Stale(cell, run, lines, changed))
            if _is_whole(changed, lines):
                to_do.tasks.append(run)
                continue
            unknown += not lines[0].made_of and lines[0].status == "ok"
            _add_lacking(to_do, run, lines, set(changed), (retry or {}).get((cell.key, run.label)))
        if to_do.tasks:
            jobs.append(CellJob(cell, tuple(to_do.tasks), to_do.attempts, to_do.kept, to_do.before))
    return State(tuple(jobs), tuple(stale), unknown)


def _is_whole(changed: Collection[str], lines: Sequence[Record]) -> bool:
    """Whether a change affects the whole task run and not just some of its metrics."""
    failed = any(line.status != "ok" for line in lines)
    return any(failed or not name.startswith(METRIC) for name in changed)


def _add_lacking(to_do: _Cell, run: TaskRun, lines: Sequence[Record], changed: set[str], retry: int | None) -> None:
    """Record what an attempted task still lacks: all of it, some metrics, or nothing."""
    values = tuple(line for line in lines if line.status == "ok")
    failed = len(values) < len(lines)
    if values:
        to_do.before[run.label] = (run, values[0].made_of.get(NETWORK, ""))
    if failed and retry != lines[0].attempts:
        return  # it is tried again only on request
    if not values or failed:  # if a part failed, all of it is tried again: parts may depend on each other
        to_do.tasks.append(run)
        return
    lacking = [m for m in run.metrics if f"{METRIC}{m.label}" in changed or not _was_requested(m.label, values)]
    if not lacking:
        return
    measured = {metric.label for metric in run.metrics} - {metric.label for metric in lacking}
    to_do.tasks.append(replace(run, metrics=tuple(lacking)))
    to_do.kept[run.label] = tuple(line for line in values if line.metric in measured)


def _was_requested(metric: str, values: Sequence[Record]) -> bool:
    """Whether a metric was requested for a finished task, even if it did not apply."""
    parts = values[0].made_of
    return f"{METRIC}{metric}" in parts if parts else any(line.metric == metric for line in values)


def sentences(stale: Sequence[Stale]) -> Iterator[str]:
    """Yield one line per change that says what changed and how many finished task runs it affects."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for item in stale:
        for name, (was, now) in item.changed.items():
            counts[(name, _owner(item, name), _short(was), _short(now))] += 1
    for (name, owner, was, now), count in counts.items():
        runs = "finished task run" if count == 1 else "finished task runs"
        yield f"{_description(name)} of {owner} changed ({was} -> {now}): {count} {runs}"


def _owner(item: Stale, name: str) -> str:
    """Return the component of a task run that a part belongs to."""
    cell, run = item.cell, item.run
    if name == VERSION:
        return "a component"
    if name in ("weights", "preprocessing", "libraries", "model"):
        return f"model {cell.model.label}"
    if name == "data":
        return f"data set {cell.data.label}" if cell.data else "the data set"
    if name.startswith("task "):
        use = run.task.references.get(name.removeprefix("task "))
        return f"{use.component.kind} {use.label}" if use else f"task {run.label}"
    if name.startswith(METRIC):
        return name
    owner = {"pruner": cell.pruner_label, "recipe": cell.recipe.label, "task": run.label}
    return f"{name} {owner.get(name, '')}".strip()


def _description(name: str) -> str:
    contents = (VERSION, "weights", "preprocessing", "libraries")
    return (
        f"the {name}"
        if name in contents
        else "the content"
        if name == "data" or name.startswith("task ")
        else "the code"
    )


def _short(text: str) -> str:
    """Return a part with shortened hashes, for a message."""
    return _HASH.sub(r"\1", text) or "none"


def accepted(stale: Sequence[Stale]) -> Iterator[tuple[Record, ...]]:
    """Yield the records of stale task runs as they are stored once the user has accepted the changes."""
    for item in stale:
        same_cell = item.lines[0].cell == item.cell.key
        now = {name: text for name, (_, text) in item.changed.items()}
        yield tuple(
            replace(
                line,
                cell=item.cell.key,
                attempts=line.attempts + 1 if same_cell else 1,
                accepted={**line.accepted, **now},
                stale="; ".join(filter(None, (line.stale, item.words))),
            )
            for line in item.lines
        )
