"""The parts of a board: columns, rows and failures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pruningbench.contract.pruner import UNDECIDED
from pruningbench.leaderboard.aggregation import Entry

ColumnKey = tuple[str, str, str]
"""Task, variant and metric."""
RowKey = tuple[str, str, str, float]
"""Model, pruner, recipe and sparsity."""
Verdict = Literal["better", "worse"]
"""Verdict on a difference to the dense model."""


@dataclass(frozen=True)
class Column:
    """One metric of one variant of a task.

    Attributes:
        task, variant, metric: names; the variant is "" for a task that has only one.
        header: shortest name that no other column of the board has.
        higher_is_better: direction; None if neither direction is better, in which case the column is not ranked.
        unit: unit of the values; "" for a pure number.
        range: smallest and largest defined value on the board; NaN if there is none.
        data_fingerprint: fingerprint of the data that every value of this column was measured on.
        ceiling: the value that people reach on the same samples; NaN if unknown.
        chance: the value of the best answer that ignores the input; NaN if that has no meaning.
        dimension: the ability that the task measures, see `pruningbench.contract.Task`.
        main: whether it is the main metric of its variant: the one that is tested against chance, or the first one if
            no metric of the task is.
    """

    task: str
    variant: str
    metric: str
    header: str
    higher_is_better: bool | None
    unit: str
    range: tuple[float, float]
    data_fingerprint: str
    ceiling: float = math.nan
    chance: float = math.nan
    dimension: str = ""
    main: bool = False

    @property
    def key(self) -> ColumnKey:
        """The key that identifies the column on its board."""
        return (self.task, self.variant, self.metric)

    @property
    def arrow(self) -> str:
        """The better direction: an arrow up or down, or ""."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


@dataclass(frozen=True)
class Row:
    """One pruned (or dense) model, averaged over seeds.

    Attributes:
        model, pruner, recipe: labels.
        sparsity: target, in [0, 1); 0 is the dense model, as loaded or as its recipe trains it.
        sparsity_achieved: measured over the prunable weights, mean over seeds; NaN if unknown.
        seeds: all seeds that have a value in this row, ascending.
        rank: mean over the ranked columns of this row's place (1 = best) among the rows of the same
            model and sparsity; None for the dense model, and for a row that collapsed or has no ranked columns.
        cells: measured values, by column key; a column that was not measured is absent.
        differences: differences to the dense model, by column key: the paired differences over samples, averaged over
            the seeds that both have, with the interval of `aggregation.average`; absent if unknown.
        reference: recipe of the dense row that the row is compared with; "" if there is none.
        verdicts: ``better`` or ``worse`` than that dense row, by column key; absent if there is no verdict.
        at_chance: main metrics of tasks that are not significantly above chance.
        collapsed: whether the first of the row's main metrics is at chance, so that the network does not work at all.
            Such a row is shown, but never ranked, never best, and never called better than the dense row.
        ties: share of the pruning decision that was made by ties, the largest over seeds; NaN if unknown.
        degenerate: number of samples whose output carries no information about them, by (task, variant); absent if 0.
        marked: whether the board's notes refer to a value in this row (stale, accepted, unchecked).
        trust: what was checked of the submissions that the row comes from (``self-reported``, ``checked``, ...),
            several words separated by "; "; "" for a run folder.
        extra: values of the requested columns for this row, by name.
        by_seed: the value of each seed with half the width of its 95 % interval (NaN if unknown), by column key and
            seed.
    """

    model: str
    pruner: str
    recipe: str
    sparsity: float
    sparsity_achieved: float
    seeds: tuple[int, ...]
    rank: float | None
    cells: Mapping[ColumnKey, Entry]
    differences: Mapping[ColumnKey, Entry] = field(default_factory=dict)
    reference: str = ""
    verdicts: Mapping[ColumnKey, Verdict] = field(default_factory=dict)
    at_chance: tuple[ColumnKey, ...] = ()
    collapsed: bool = False
    degenerate: Mapping[tuple[str, str], int] = field(default_factory=dict)
    ties: float = math.nan
    marked: bool = False
    trust: str = ""
    extra: Mapping[str, float | str | None] = field(default_factory=dict)
    by_seed: Mapping[ColumnKey, Mapping[int, tuple[float, float]]] = field(default_factory=dict, compare=False)

    @property
    def undecided(self) -> bool:
        """Whether ties made more of the pruning decision than `UNDECIDED` allows."""
        return self.ties > UNDECIDED

    @property
    def dense(self) -> bool:
        """Whether nothing is pruned; such a row is a reference and is not ranked."""
        return self.sparsity == 0


@dataclass(frozen=True)
class Failure:
    """A task, or a part of a task, that gave no values on a cell.

    Attributes:
        run, model, pruner, recipe, sparsity, seed, task: where it failed.
        part: missing variant and metric, separated by a space; "" for the whole task, or its rest.
        status: failed, skipped, crashed, timeout or oom.
        error: last line of the error.
    """

    run: str
    model: str
    pruner: str
    recipe: str
    sparsity: float
    seed: int
    task: str
    status: str
    error: str
    part: str = ""


@dataclass(frozen=True)
class Board:
    """Results that may be compared with each other: each column was measured on the same data.

    Attributes:
        title: names of the suites, and how the data differ if there are several boards.
        suites: names of the suites, in the given order.
        columns: ordered by task, variant and metric as they first appear in the results.
        rows: ordered by model as first seen, then by sparsity, mean rank and label.
        failed: tasks that gave no values, in the order of the results.
        notes: sentences that the reader should know (for example about left-out measurements).
        statements: sentences about the findings, see `pruningbench.leaderboard.statements`.
    """

    title: str
    suites: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    failed: tuple[Failure, ...]
    notes: tuple[str, ...]
    statements: tuple[str, ...] = ()
