"""Which pruner keeps which ability: every main metric as a change relative to the dense reference.

Metrics have different units and directions, so the heat map shows none of their values. It shows the *kept share*: the
paired difference to the dense reference, divided by what the dense reference has over chance (over zero where a metric
has no chance level), with the sign turned so that more is better. 0 is the dense reference, -1 is chance, and +0.1 is
a tenth of the dense reference's advantage more. The uncertainty of the divisor is not part of the interval.

An ability (dimension) is the mean over its tasks of the mean over the main metrics of each task, one for each variant.
Metrics that were measured on less than half as many rows of the model as another metric of the ability are listed below
it, but are left out of the mean: most rows would have none.
The limits of its interval are the same means of the limits: right if the metrics err together, too wide otherwise.

Rows of different recipes have different references, so the *best* row is chosen by its *level* instead: its value over
chance, divided by what one dense row of the model has over chance. Of a single metric, that is the order of the values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pruningbench.leaderboard.references import as_loaded
from pruningbench.leaderboard.rows import Board, Column, Row
from pruningbench.site.boards import dimension_of


@dataclass(frozen=True)
class Kept:
    """A change relative to the dense reference, positive if better.

    Attributes:
        value: the change; NaN if unknown.
        low, high: its 95 % interval; NaN if unknown.
        better, worse: number of metrics behind it that are significantly better or worse.
        metrics: number of metrics behind it.
        chance: whether a metric behind it is at chance.
    """

    value: float
    low: float
    high: float
    better: int
    worse: int
    metrics: int
    chance: bool


@dataclass(frozen=True)
class Line:
    """A line of the heat map: an ability, or one of its metrics.

    Attributes:
        name: of the ability; "" for a metric.
        columns: the main metrics that it is the mean of.
        parent: place of the ability that a metric belongs to; -1 for an ability.
    """

    name: str
    columns: tuple[Column, ...]
    parent: int = -1


def main_metrics(columns: Iterable[Column]) -> list[Column]:
    """Return the main metric of each task and variant, or its first one with a direction if the main one has none."""
    directed = (column for column in columns if column.higher_is_better is not None)
    groups = (list(group) for _, group in groupby(directed, key=lambda column: column.key[:2]))
    return [next((column for column in group if column.main), group[0]) for group in groups]


def lines_of(board: Board, model: str | None = None) -> list[Line]:
    """Return the lines of the heat map: each ability, followed by its metrics if there are several, also rare ones.

    Args:
        board: the board.
        model: leave out what was measured on no network of this model; None for all models.
    """
    rows = [row for row in board.rows if model is None or row.model == model]
    measured = Counter(key for row in rows for key in row.cells)
    abilities: dict[str, list[Column]] = {}
    for column in main_metrics(board.columns):
        if not measured[column.key]:
            continue
        abilities.setdefault(dimension_of(column), []).append(column)
    lines: list[Line] = []
    for name, columns in abilities.items():
        place = len(lines)
        most = max(measured[column.key] for column in columns)
        lines.append(Line(name, tuple(column for column in columns if 2 * measured[column.key] >= most)))
        if len(columns) > 1:
            lines += [Line("", (column,), place) for column in columns]
    return lines


def references(board: Board) -> dict[tuple[str, str], Row]:
    """Return the dense rows by model and recipe."""
    return {(row.model, row.recipe): row for row in board.rows if row.dense}


def scale_of(column: Column, dense: Row) -> float:
    """Return what a dense row has over chance in a column, over zero without a chance level.

    NaN if that is not larger than half the width of the dense value's interval: then nothing can be kept or lost.
    """
    entry = dense.cells.get(column.key)
    if entry is None or dense.collapsed or column.key in dense.at_chance:
        return math.nan
    floor = column.chance if math.isfinite(column.chance) else 0.0
    scale = abs(entry.value - floor)
    least = entry.half_width if math.isfinite(entry.half_width) else 0.0
    return scale if math.isfinite(scale) and scale > max(least, 1e-9) else math.nan


def common_reference(references: Mapping[tuple[str, str], Row], model: str) -> Row | None:
    """Return the dense row by which all rows of a model are put in order: the model as loaded, if it was measured."""
    dense = [row for row in references.values() if row.model == model]
    return next((row for row in dense if as_loaded(row.recipe)), dense[0] if dense else None)


def level(row: Row, line: Line, common: Row | None) -> float:
    """Return the level of a row in a line: 1 for the common dense row, 0 at chance; NaN if it is unknown."""
    parts: dict[str, list[tuple[float]]] = {}
    for column in line.columns:
        entry, scale = row.cells.get(column.key), scale_of(column, common) if common else math.nan
        if entry is None or common is None:
            return math.nan
        sign = 1 if column.higher_is_better else -1
        change = sign * (entry.value - common.cells[column.key].value) / scale if scale > 0 else math.nan
        parts.setdefault(column.task, []).append((1 + change,))
    return mean_of_tasks(parts)[0]


def kept(row: Row, line: Line, dense: Row | None) -> Kept | None:
    """Return what a row keeps in a line; None if one of the metrics is missing or cannot be compared."""
    if dense is None:
        return None
    parts: dict[str, list[tuple[float, float, float]]] = {}
    for column in line.columns:
        scale, entry = scale_of(column, dense), row.cells.get(column.key)
        if entry is None or math.isnan(scale):
            return None
        change = row.differences.get(column.key)
        if change is None:  # no per-sample values: a difference without an interval
            limits = (entry.value - dense.cells[column.key].value, math.nan, math.nan)
        else:
            limits = (change.value, change.low, change.high)
        parts.setdefault(column.task, []).append(_directed(limits, scale, bool(column.higher_is_better)))
    value, low, high = mean_of_tasks(parts)
    if math.isnan(value):
        return None
    verdicts = [row.verdicts.get(column.key) for column in line.columns]
    return Kept(
        value, low, high, verdicts.count("better"), verdicts.count("worse"), len(line.columns),
        any(column.key in row.at_chance for column in line.columns),
    )  # fmt: skip


def mean_of_tasks(parts: Mapping[str, Sequence[tuple[float, ...]]]) -> tuple[float, ...]:
    """Return the mean over tasks of the mean over the metrics of a task, for each place of the tuples."""
    means = [_mean(listed) for listed in parts.values()]
    return _mean(means)


def _mean(tuples: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(math.fsum(place) / len(tuples) for place in zip(*tuples, strict=True))


def _directed(limits: tuple[float, float, float], scale: float, higher_is_better: bool) -> tuple[float, float, float]:
    value, low, high = (limit / scale for limit in limits)
    return (value, low, high) if higher_is_better else (-value, -high, -low)
