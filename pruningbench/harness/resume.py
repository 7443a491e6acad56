"""Resuming: which finished measurements of a run folder are still valid, and what is left to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter

from pruningbench.harness.artifacts import METRIC, NETWORK, Parts, code_parts, differences
from pruningbench.harness.events import CellJob
from pruningbench.store.attempts import Attempt, last_attempts
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
        attempt: what the journal says of it.
        changed: part -> (before, now).
    """

    cell: Cell
    run: TaskRun
    attempt: Attempt
    changed: Mapping[str, tuple[str, str]]

    @property
    def failed(self) -> bool:
        """Whether any of it failed, so that it cannot be accepted."""
        return self.attempt.failed

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

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        self._last = last_attempts(attempts)

    @cached_property
    def _by_plan(self) -> dict[str, Attempt]:
        return {attempt.plan: attempt for attempt in self._last.values() if attempt.plan}

    def __bool__(self) -> bool:
        """Whether anything has been tried."""
        return bool(self._last)

    def attempt(self, cell: Cell, run: TaskRun) -> Attempt | None:
        """Return the last attempt at a task on a cell; None if it was never tried."""
        current, plan = self._last.get((cell.key, run.label)), plan_key(cell, run)
        if current is not None and current.plan in ("", plan):
            return current
        return self._by_plan.get(plan)

    def attempts(self, cell: Cell, run: TaskRun) -> int:
        """Return how often a task with this label has been tried on a cell."""
        last = self._last.get((cell.key, run.label))
        return last.attempts if last else 0


class _Now:
    """What tasks would be made from now; it is the same for all sparsities and seeds of a model, pruner and recipe."""

    def __init__(self, parts_of: PartsOf) -> None:
        self._parts_of = parts_of
        self._parts: dict[tuple[object, ...], tuple[object, Parts]] = {}
        self._expected: dict[tuple[object, ...], tuple[Callable[[Sequence[str]], object], object] | None] = {}

    def parts(self, cell: Cell, run: TaskRun) -> Parts:
        """Return the parts of a task on a cell."""
        return self._of_kind(self._kind(cell, run), cell, run)

    def has_all(self, cell: Cell, run: TaskRun, attempt: Attempt) -> bool:
        """Whether an attempt was made from these parts, and for all metrics of the task; False if it does not say.

        The same as comparing `differences` and the metrics one by one, for a million rows.
        """
        if attempt.accepted_parts[0]:
            return False
        names, texts = attempt.parts
        kind = self._kind(cell, run)
        key = (*kind, names)
        if key not in self._expected:
            parts = self._of_kind(kind, cell, run)
            places = [place for place, name in enumerate(names) if name in parts]
            there = all(f"{METRIC}{metric.label}" in names for metric in run.metrics)
            get = itemgetter(*places) if there and places else None
            self._expected[key] = get and (get, get([parts.get(name, "") for name in names]))
        expected = self._expected[key]
        return expected is not None and expected[0](texts) == expected[1]

    def _kind(self, cell: Cell, run: TaskRun) -> tuple[object, ...]:
        ids = (id(cell.model), id(cell.pruner), id(cell.recipe), id(cell.data), id(run))
        return (*ids, cell.rounds, cell.precision)

    def _of_kind(self, kind: tuple[object, ...], cell: Cell, run: TaskRun) -> Parts:
        if kind not in self._parts:
            uses = (cell.model, cell.pruner, cell.recipe, cell.data, run)  # kept, so that no id is given again
            self._parts[kind] = uses, self._parts_of(cell, run)
        return self._parts[kind][1]


def assess(
    plan: Plan,
    attempts: Iterable[Attempt],
    parts_of: PartsOf = code_parts,
    retry: Mapping[TaskKey, int] | None = None,
    again: Collection[TaskKey] = (),
) -> State:
    """Compare a journal with a plan and with the current components.

    Args:
        plan: everything that the run consists of.
        attempts: the journal.
        parts_of: returns what a task on a cell would be made from now, whatever its sparsity and seed; parts that it
            does not return are not compared.
        retry: task runs to try again, with their number of attempts so far; a task run that has been attempted
            since then is not tried again.
        again: finished task runs to measure again, whatever they were made from.
    """
    finished = Finished(attempts)
    if not finished:
        every = ((cell, plan.tasks_of(cell)) for cell in plan.cells)
        return State(tuple(CellJob(cell, runs) for cell, runs in every if runs))
    jobs, stale, unknown, now = [], list[Stale](), 0, _Now(parts_of)
    for cell in plan.cells:
        tried = [(run, finished.attempt(cell, run)) for run in plan.tasks_of(cell)]
        if all(
            attempt and (cell.key, run.label) not in again and _is_done(cell, run, attempt, now)
            for run, attempt in tried
        ):
            continue
        to_do = _Cell()
        for run, attempt in tried:
            to_do.attempts[run.label] = finished.attempts(cell, run)
            if attempt is None or (cell.key, run.label) in again:
                to_do.tasks.append(run)
                continue
            changed = differences(attempt.compared, now.parts(cell, run))
            if attempt.cell != cell.key and not changed:
                changed = {VERSION: ("another", "this")}  # the component's code is in no part
            if changed:
                stale.append(Stale(cell, run, attempt, changed))
            if _is_whole(changed, attempt):
                to_do.tasks.append(run)
                continue
            unknown += attempt.status == "ok" and not attempt.knows_parts
            _add_lacking(to_do, run, attempt, set(changed), (retry or {}).get((cell.key, run.label)))
        if to_do.tasks:
            jobs.append(CellJob(cell, tuple(to_do.tasks), to_do.attempts, to_do.kept, to_do.before))
    return State(tuple(jobs), tuple(stale), unknown)


def _is_done(cell: Cell, run: TaskRun, attempt: Attempt, now: _Now) -> bool:
    """Whether nothing more has to be said of an attempt: it has all values, from today's parts. Of most it is true."""
    return attempt.cell == cell.key and not attempt.failed and now.has_all(cell, run, attempt)


def _is_whole(changed: Collection[str], attempt: Attempt) -> bool:
    """Whether a change affects the whole task run and not just some of its metrics."""
    return any(attempt.failed or not name.startswith(METRIC) for name in changed)


def _add_lacking(to_do: _Cell, run: TaskRun, attempt: Attempt, changed: set[str], retry: int | None) -> None:
    """Record what an attempted task still lacks: all of it, some metrics, or nothing."""
    if attempt.some_ok:
        to_do.before[run.label] = (run, attempt.made_of_ok.get(NETWORK, ""))
    if attempt.failed and retry != attempt.attempts:
        return  # it is tried again only on request
    if attempt.failed:  # if a part failed, all of it is tried again: parts may depend on each other
        to_do.tasks.append(run)
        return
    lacking = [m for m in run.metrics if f"{METRIC}{m.label}" in changed or not _was_requested(m.label, attempt)]
    if not lacking:
        return
    measured = {metric.label for metric in run.metrics} - {metric.label for metric in lacking}
    to_do.tasks.append(replace(run, metrics=tuple(lacking)))
    to_do.kept[run.label] = tuple(line for line in attempt.lines if line.metric in measured)


def _was_requested(metric: str, attempt: Attempt) -> bool:
    """Whether a metric was requested for a finished task, even if it did not apply."""
    parts = attempt.made_of_ok
    return f"{METRIC}{metric}" in parts if parts else metric in attempt.metrics


def sentences(stale: Sequence[Stale]) -> Iterator[str]:
    """Yield one line per change that says what changed and how many finished task runs it affects."""
    exact: Counter[tuple[str, str, str, str]] = Counter()
    for item in stale:
        for name, (was, now) in item.changed.items():
            exact[(name, _owner(item, name), was, now)] += 1
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for (name, owner, was, now), count in exact.items():  # few, where a change affects many task runs
        counts[(name, owner, _short(was), _short(now))] += count
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
        same_cell = item.attempt.cell == item.cell.key
        now = {name: text for name, (_, text) in item.changed.items()}
        yield tuple(
            replace(
                line,
                cell=item.cell.key,
                attempts=line.attempts + 1 if same_cell else 1,
                accepted={**line.accepted, **now},
                stale="; ".join(filter(None, (line.stale, item.words))),
            )
            for line in item.attempt.lines
        )
