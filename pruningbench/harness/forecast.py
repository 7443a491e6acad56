"""How long the rest of a run will take, from what has been measured: of this run, an earlier one, or a calibration."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pruningbench.harness.events import CellJob
    from pruningbench.store.attempts import Attempt
    from pruningbench.suite.cells import Cell

Key = tuple[str, ...]
ALONE = 0.5
"""Relative standard deviation that a single measurement is given."""
ANALOGY = 1.0
"""Relative standard deviation of what is taken from another model, pruner or recipe."""
PATIENCE, LEAST_PATIENCE = 20.0, 600.0
"""Work that is silent for so many times as long as the longest of its kind took, and so many seconds, hangs."""


@dataclass(frozen=True)
class Span:
    """An estimate of a time in seconds, with its standard deviation.

    Attributes:
        seconds: the estimate; 0 if nothing is known.
        deviation: its standard deviation.
        basis: ``measured`` alike, an ``analogy`` with others, or ``unknown``.
    """

    seconds: float
    deviation: float
    basis: str


@dataclass(frozen=True)
class Outlook:
    """How long several cells will take, one after another.

    Attributes:
        seconds: the estimate, without the parts of which nothing is known.
        low, high: about 95 % of outcomes lie between these, if the unknown parts take no time.
        measured, analogy, unknown: number of pieces of work (preparing a cell, or a task on it) by what is known.
        cells: number of cells that the estimate rests on.
    """

    seconds: float
    low: float
    high: float
    measured: int
    analogy: int
    unknown: int
    cells: int


@dataclass
class Forecast:
    """What pieces of work have taken, by what they were; grows while a run goes on."""

    _times: dict[Key, list[float]] = field(default_factory=dict)
    _longest: dict[Key, float] = field(default_factory=dict)
    _known: dict[Key, tuple[int, float, float]] = field(default_factory=dict)
    """Number, mean and spread of the times of a kind when they were last asked for: of many cells, all are."""
    _cells: set[str] = field(default_factory=set)

    def learn(self, attempts: Iterable[Attempt]) -> None:
        """Learn from a journal; each task run and each preparation counts once."""
        for one in attempts:
            if one.status != "ok":
                continue
            self._add(_task_keys(one.model, one.task), one.seconds)
            if one.cell not in self._cells:
                self._cells.add(one.cell)
                self._add(_preparing_keys(one.model, one.pruner, one.recipe), one.prepare_seconds)

    def _add(self, keys: Sequence[Key], seconds: float) -> None:
        for key in keys:
            self._times.setdefault(key, []).append(seconds)
            self._longest[key] = max(seconds, self._longest.get(key, seconds))

    def task(self, cell: Cell, task: str) -> Span:
        """Estimate the time of a task on a cell."""
        return self._look_up(_task_keys(cell.model.label, task))

    def preparing(self, cell: Cell) -> Span:
        """Estimate the time of pruning and training a cell, the share of what it has in common with others included."""
        return self._look_up(_preparing_keys(cell.model.label, cell.pruner_label, cell.recipe.label))

    def _look_up(self, keys: Sequence[Key]) -> Span:
        for level, key in enumerate(keys):
            times = self._times.get(key)
            if not times:
                continue
            number, mean, spread = self._known.get(key, (0, 0.0, 0.0))
            if number != len(times):
                mean = statistics.fmean(times)
                spread = statistics.stdev(times) if len(times) > 1 else ALONE * mean
                self._known[key] = len(times), mean, spread
            return Span(mean, max(spread, ANALOGY * mean) if level else spread, "analogy" if level else "measured")
        return Span(0.0, 0.0, "unknown")

    def of(self, job: CellJob) -> float:
        """Return the seconds that a job is likely to take; 0 if nothing is known."""
        return self.preparing(job.cell).seconds + sum(self.task(job.cell, run.label).seconds for run in job.tasks)

    def outlook(self, work: Iterable[tuple[Cell, Sequence[str]]]) -> Outlook:
        """Estimate cells with the labels of the tasks to do on each.

        Deviations of pieces of the same kind go together, because what is wrong with one estimate is wrong with all
        that rest on it; kinds are independent.
        """
        counts = {"measured": 0, "analogy": 0, "unknown": 0}
        seconds, kinds = 0.0, dict[Key, float]()
        for cell, tasks in work:
            model = cell.model.label
            spans: list[tuple[Span, Key]] = [(self.preparing(cell), (model, cell.pruner_label, cell.recipe.label))]
            spans += [(self.task(cell, label), (model, label)) for label in tasks]
            for span, kind in spans:
                counts[span.basis] += 1
                seconds += span.seconds
                kinds[kind] = kinds.get(kind, 0.0) + span.deviation
        error = 2 * math.sqrt(sum(deviation**2 for deviation in kinds.values()))
        return Outlook(seconds, max(seconds - error, 0.0), seconds + error, **counts, cells=len(self._cells))

    def patience(self, kinds: Iterable[Key]) -> float | None:
        """Return the seconds without a sign of progress after which work of some kinds is taken to hang.

        None unless all of them have been measured: what has never been seen may take any time.

        Args:
            kinds: what `kinds_of` returns.
        """
        if not all(kind in self._times for kind in kinds):
            return None
        longest = max((self._longest[kind] for kind in kinds), default=0.0)
        return max(PATIENCE * longest, LEAST_PATIENCE)


def kinds_of(jobs: Iterable[CellJob]) -> frozenset[Key]:
    """Return the kinds of work in some jobs: tasks on a model, and preparing its cells by a pruner and a recipe."""
    kinds = set()
    for job in jobs:
        cell = job.cell
        kinds.add(_preparing_keys(cell.model.label, cell.pruner_label, cell.recipe.label)[0])
        kinds |= {_task_keys(cell.model.label, run.label)[0] for run in job.tasks}
    return frozenset(kinds)


def _task_keys(model: str, task: str) -> tuple[Key, ...]:
    """Return what a task's time is looked up by, the most alike first."""
    return ("task", model, task), ("task", task)


def _preparing_keys(model: str, pruner: str, recipe: str) -> tuple[Key, ...]:
    """Return what the time of pruning and training is looked up by, the most alike first."""
    return (
        ("prepare", model, pruner, recipe), ("prepare of model", model, recipe), ("prepare by pruner", pruner, recipe),
        ("prepare by recipe", recipe),
    )  # fmt: skip
