"""What a board is made of: columns, rows and failures."""

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
"""On a difference to the dense model."""


@dataclass(frozen=True)
class Column:
    """One metric of one variant of a task.

    Attributes:
        task, variant, metric: names; the variant is "" for a task that has only one.
        header: shortest name that no other column of the board has.
        higher_is_better: direction; None when neither end is better, and the column is not ranked.
        unit: of the values; "" for a pure number.
        range: smallest and largest defined value on the board; NaN when there is none.
        data_fingerprint: of the data that every value of this column was measured on.
        ceiling: what people reach on the same samples; NaN if unknown.
        chance: what the best answer that looks at nothing reaches; NaN where that has no meaning.
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

    @property
    def key(self) -> ColumnKey:
        """What identifies the column on its board."""
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
        cells: what was measured, by column key; a column that was not measured is absent.
        differences: to the dense model, by column key: the mean over the seeds that both have of the paired
            differences over samples, with the interval of `aggregation.average`; absent where unknown.
        reference: recipe of the dense row that the differences are to; "" if there is none.
        verdicts: ``better`` or ``worse`` than that dense row, by column key; absent where nothing can be said.
        at_chance: main metrics of tasks that are not significantly above chance.
        collapsed: whether the first of the row's main metrics is: the network sees nothing. Such a row is shown,
            never ranked, never best, and never called better than the dense one.
        ties: largest share of any seed of the decision which weights to prune that ties made; NaN if unknown.
        degenerate: by (task, variant), samples whose output says nothing about them; only where there are any.
        marked: whether the board's notes say something of a value in this row (stale, accepted, unchecked).
        extra: what the columns asked for say of the row, by name.
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
    extra: Mapping[str, float | str | None] = field(default_factory=dict)

    @property
    def undecided(self) -> bool:
        """Whether scores left more of the decision to ties than is tolerable."""
        return self.ties > UNDECIDED

    @property
    def dense(self) -> bool:
        """Whether nothing is pruned: such a row is a reference and is not ranked."""
        return self.sparsity == 0


@dataclass(frozen=True)
class Failure:
    """A task that gave no values on a cell, or a part of one.

    Attributes:
        run, model, pruner, recipe, sparsity, seed, task: where.
        part: variant and metric that lack, separated by a space; "" for the whole task, or its rest.
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
        title: names of the suites, and how the data differ when there are several boards.
        suites: names of the suites, in the order given.
        columns: by task, variant and metric, each as first seen in the results.
        rows: by model as first seen, then sparsity, mean rank and label.
        failed: tasks that gave no values, as the results list them.
        notes: sentences about what the reader should know (measurements left out).
        statements: sentences about what the results say, see `pruningbench.leaderboard.statements`.
    """

    title: str
    suites: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    failed: tuple[Failure, ...]
    notes: tuple[str, ...]
    statements: tuple[str, ...] = ()
