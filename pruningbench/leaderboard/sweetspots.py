"""Sweet spots: sparsities at which a metric is better than dense while accuracy is kept; and up to where it is kept.

    for spot in sweet_spots(board):
        print(spot.sentence)

A *sweet spot* is a sparsity at which

* the metric is better than the dense reference: its paired difference has a p-value of at most .05 after Holm's
  correction for all tests of the model's table (the mark ▲, see `pruningbench.leaderboard.verdicts`), and its 95 %
  interval excludes zero;
* accuracy is not worse than that of the reference by more than epsilon: the lower limit of its paired difference is at
  least -epsilon, for the main metric of every task of the dimension ``accuracy`` (non-inferiority);
* the network has not collapsed, and its main metric in the task is above chance.

The probability that any metric of a model's table is wrongly called better is at most 5 %. The condition on accuracy is
tested for each row by itself, at 2.5 % one-sided.

A metric is *kept* at a sparsity if the limit of its paired interval shows that it is not worse than dense by more
than a margin: epsilon for fractions, else epsilon times the dense value. It is *lost* if the other limit shows that
it is worse by more than the margin, if it is worse than dense after correction and not kept, or if the network has
collapsed. It is kept up to the largest measured sparsity below the first one at which it is lost. Both limits are
tested for each row by itself, at 2.5 % one-sided. The limits of that statement are the largest sparsity up to which
it is shown to be kept at all sparsities, and the lowest at which it is lost.

Source: non-inferiority by intervals: S. Wellek, Testing Statistical Hypotheses of Equivalence and Noninferiority, 2010.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from pruningbench.contract.findings import FRACTION, Interval, State, SweetPoint, SweetSpot, widened
from pruningbench.contract.reporting import percent
from pruningbench.contract.task import ACCURACY
from pruningbench.errors import UsageError
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.leaderboard.rows import Board, Column, ColumnKey, Row, Verdict
from pruningbench.leaderboard.verdicts import blind

EPSILON = 0.01
"""Largest loss of accuracy that counts as none: one point."""

Condition = tuple[str, str, str]
"""Model, pruner and recipe."""
_Accurate = tuple[Row, State, Interval | None]
"""A row, whether its accuracy is kept, and the difference of its accuracy."""


def sweet_spots(board: Board, *, epsilon: float = EPSILON) -> tuple[SweetSpot, ...]:
    """Return, for each model, pruner, recipe and directed metric, its sweet spots and up to where it is kept.

    Args:
        board: what `pruningbench.leaderboard.build` returned, with the folders of the runs: without their per-sample
            values there are no differences, and so no sweet spots.
        epsilon: largest loss of accuracy that counts as none, in the units of accuracy, > 0. Fractions of other
            dimensions have the same margin, other metrics this share of their dense value.

    Returns:
        One for each model, pruner, recipe and column that has a direction and was measured on a pruned row, in the
        order of the rows and columns. Those without a sweet spot have no `sparsities`.

    Raises:
        UsageError: for an epsilon that is not a positive number.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise UsageError(f"epsilon must be a positive number, got {epsilon!r}")
    conditions: dict[Condition, list[Row]] = {}
    for row in board.rows:
        if not row.dense:
            conditions.setdefault((row.model, row.pruner, row.recipe), []).append(row)
    dense = {(row.model, row.recipe): row for row in board.rows if row.dense}
    names = compact(label for condition in conditions for label in condition[1:])
    accuracies = accuracy_columns(board)
    spots = []
    for condition, rows in conditions.items():
        rows.sort(key=lambda row: row.sparsity)
        reference = dense.get((condition[0], rows[0].reference))
        # an accuracy that was not measured on this model is none of its conditions
        own = [c for c in accuracies if reference is not None and c.key in reference.cells]
        measured = [(row, *_accuracy(row, own, epsilon)) for row in rows]
        for column in board.columns:
            if column.higher_is_better is not None and any(column.key in row.cells for row in rows):
                spot = _spot(condition, measured, reference, column, epsilon)
                obstacle = _obstacle(reference, column, own, spot.points)
                spots.append(replace(spot, obstacle=obstacle, words=partial(_sentence, column.header, names)))
    return tuple(spots)


def accuracy_columns(board: Board) -> tuple[Column, ...]:
    """Return the columns that stand for the accuracy of a model: main metrics of the dimension ``accuracy``."""
    return tuple(c for c in board.columns if c.dimension == ACCURACY and c.main and c.higher_is_better is not None)


def not_worse(change: Entry, column: Column, margin: float) -> bool:
    """Return whether a paired difference shows that a metric is not worse than its reference by more than a margin.

    The limit of the interval on the worse side has to be at least ``-margin``. For metrics of the unit ``fraction`` it
    is `pruningbench.contract.widened` first.
    """
    sign = 1.0 if column.higher_is_better else -1.0
    value, limit = sign * change.value, sign * (change.low if column.higher_is_better else change.high)
    if not math.isfinite(limit) or math.isnan(margin):
        return False
    if column.unit == FRACTION:
        limit = widened(value, min(limit, value), change.n)
    return limit >= -margin


def _shown_worse(change: Entry, column: Column, margin: float) -> bool:
    """Return whether a paired difference shows that a metric is worse than its reference by more than a margin."""
    sign = 1.0 if column.higher_is_better else -1.0
    value, limit = sign * change.value, sign * (change.high if column.higher_is_better else change.low)
    if not math.isfinite(limit) or math.isnan(margin):
        return False
    if column.unit == FRACTION:  # as `widened`, on the other side
        limit = value + math.hypot(limit - value, 1.96 / change.n)
    return limit < -margin


def _spot(
    condition: Condition, rows: Sequence[_Accurate], reference: Row | None, column: Column, epsilon: float
) -> SweetSpot:
    margin = _margin(reference, column, epsilon)
    points = tuple(_point(one, column, margin) for one in rows if column.key in one[0].cells)
    return SweetSpot(
        *condition, rows[0][0].reference, *column.key, column.dimension, bool(column.higher_is_better), column.unit,
        epsilon, margin, points,
    )  # fmt: skip


def _margin(reference: Row | None, column: Column, epsilon: float) -> float:
    if column.unit == FRACTION:
        return epsilon
    entry = reference.cells.get(column.key) if reference else None
    return epsilon * abs(entry.value) if entry else math.nan


def _point(accurate: _Accurate, column: Column, margin: float) -> SweetPoint:
    row, accuracy, least = accurate
    change = row.differences.get(column.key)
    verdict: Verdict | Literal[""] = row.verdicts.get(column.key, "")
    sign = 1.0 if column.higher_is_better else -1.0
    excludes_zero = change is not None and min(sign * change.low, sign * change.high) > 0
    return SweetPoint(
        sparsity=row.sparsity,
        sweet=verdict == "better" and excludes_zero and accuracy == "kept" and not blind(row, column),
        difference=_interval(change),
        p_holm=change.p_holm if change else math.nan,
        verdict=verdict,
        state=_state(row, column, margin),
        accuracy=accuracy,
        accuracy_difference=least,
        collapsed=row.collapsed,
    )


def _state(row: Row, column: Column, margin: float) -> State:
    change = row.differences.get(column.key)
    if row.collapsed:
        return "lost"
    if change is not None and not blind(row, column) and not_worse(change, column, margin):
        return "kept"
    if change is not None and _shown_worse(change, column, margin):
        return "lost"
    return "lost" if row.verdicts.get(column.key) == "worse" else "open"


def _accuracy(row: Row, accuracies: Sequence[Column], epsilon: float) -> tuple[State, Interval | None]:
    """Return whether all accuracies are kept, and the difference of the one with the lowest limit."""
    states: list[State] = [_state(row, column, epsilon) for column in accuracies]
    known = [(column, row.differences[column.key]) for column in accuracies if column.key in row.differences]
    least = min(known, key=lambda pair: pair[1].low if pair[0].higher_is_better else -pair[1].high, default=None)
    if "lost" in states:
        state: State = "lost"
    else:
        state = "kept" if states and all(one == "kept" for one in states) else "open"
    return state, _interval(least[1] if least else None)


def _interval(change: Entry | None) -> Interval | None:
    return Interval(change.value, change.low, change.high, change.n, change.seeds) if change else None


def _obstacle(reference: Row | None, column: Column, accuracies: Sequence[Column], points: Sequence[SweetPoint]) -> str:
    if reference is None:
        return "there is no dense reference"
    if blind(reference, column):
        return "the dense model is at chance"
    if not accuracies:
        return "no accuracy was measured"
    if all(point.difference is None for point in points):
        return "there are no per-sample values to compare"
    return ""


def _sentence(header: str, names: Mapping[str, str], spot: SweetSpot) -> str:
    """Return one sentence about sweet spots, and one about where the metric is kept."""
    who = f"{elide(spot.model, 34)}, {names[spot.pruner]}, {names[spot.recipe]}"
    what = elide(header, 40)
    best = spot.best
    if best is not None and best.difference is not None:
        change = difference_text(best.difference)
        most = f"{change} there" if len(spot.sparsities) == 1 else f"most at {percent(best.sparsity)}: {change}"
        beats = f"better than dense at {listed(spot.sparsities)} with accuracy kept ({most})"
        return f"{who}: {what} {beats}; {kept_text(spot)}."
    if spot.obstacle:
        return f"{who}: {what} has no sweet spot, because {spot.obstacle}."
    return f"{who}: {what} has no sweet spot; {kept_text(spot)}."


def kept_text(spot: SweetSpot) -> str:
    """Return ``not worse up to 74% (shown up to 50%, lost at 83%)``, as far as that is known."""
    if math.isnan(spot.kept_up_to):
        return "not compared with dense"
    lost = f"lost at {percent(spot.lost_at)}" if math.isfinite(spot.lost_at) else "nowhere lost"
    if not spot.kept_up_to:
        return lost
    shown = f"shown up to {percent(spot.shown_up_to)}" if spot.shown_up_to else "shown at no sparsity"
    return f"not worse up to {percent(spot.kept_up_to)} ({shown}, {lost})"


def difference_text(difference: Interval) -> str:
    """Return a difference with its sign and 95 % interval: ``+.043 [.021, .065]``."""
    decimals = decimals_for([difference.value, difference.low, difference.high])
    sign = "+" if difference.value > 0 else ""
    limits = f"[{number(difference.low, decimals)}, {number(difference.high, decimals)}]"
    return f"{sign}{number(difference.value, decimals)} {limits}"


def listed(sparsities: Iterable[float]) -> str:
    """Return ``50%, 80% and 90%``."""
    *first, last = map(percent, sparsities)
    return f"{', '.join(first)} and {last}" if first else last


def sweet_spot_table(spots: Sequence[SweetSpot]) -> list[tuple[str, ...]]:
    """Return a table: a header, and one row for each condition that has a sweet spot; names are raw text."""
    header = ("model", "pruner", "recipe", "dimension", "metric", "sweet spots", "best", "difference to dense",
              "kept up to", "shown up to", "lost at")  # fmt: skip
    rows: list[tuple[str, ...]] = [header]
    for spot in spots:
        best = spot.best
        if best is None or best.difference is None:
            continue
        rows.append(
            (
                spot.model, spot.pruner, spot.recipe, spot.dimension, " ".join(filter(None, spot.key)),
                ", ".join(map(percent, spot.sparsities)), percent(best.sparsity), difference_text(best.difference),
                percent(spot.kept_up_to), percent(spot.shown_up_to),
                percent(spot.lost_at) if math.isfinite(spot.lost_at) else "",
            )
        )  # fmt: skip
    return rows


def blocked(spots: Iterable[SweetSpot]) -> dict[str, list[ColumnKey]]:
    """Return why conditions cannot have sweet spots: obstacle -> columns, each once."""
    reasons: dict[str, dict[ColumnKey, None]] = {}
    for spot in spots:
        if spot.obstacle:
            reasons.setdefault(spot.obstacle, {})[spot.key] = None
    return {reason: list(columns) for reason, columns in reasons.items()}
