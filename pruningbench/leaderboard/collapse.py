"""Collapsed rows: main metrics at chance, and degenerate outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pruningbench.contract.chance import LEVEL
from pruningbench.leaderboard.rows import Column, ColumnKey, Row

Measurement = Mapping[Any, Any]


def main_columns(measurements: Sequence[Measurement], columns: Sequence[Column]) -> tuple[ColumnKey, ...]:
    """Return, for each task, the first column with a test against chance, in the order of the columns.

    A row's main metric is the first of these columns that the row has; it says whether the network works at all.
    """
    tested = {(m["task"], m["variant"], m["metric"]) for m in measurements if not math.isnan(_p_value(m))}
    first: dict[str, ColumnKey] = {}
    for column in columns:
        if column.key in tested:
            first.setdefault(column.task, column.key)
    return tuple(first.values())


def main_of_variants(measurements: Sequence[Measurement], keys: Sequence[ColumnKey]) -> frozenset[ColumnKey]:
    """Return the main metric of each (task, variant): the one tested against chance, else the first in order.

    If the task's main metric is tested in one variant only, it is the main metric of all its variants that have it.
    """
    tested = {(m["task"], m["metric"]) for m in measurements if not math.isnan(_p_value(m))}
    first: dict[tuple[str, str], ColumnKey] = {}
    for key in sorted(keys, key=lambda key: (key[0], key[2]) not in tested):
        first.setdefault(key[:2], key)
    return frozenset(first.values())


def at_chance(by_column: Mapping[ColumnKey, Sequence[Measurement]], main: Sequence[ColumnKey]) -> tuple[ColumnKey, ...]:
    """Return the main columns in which at least half of a row's seeds are not significantly above chance."""
    found = []
    for key in main:
        tests = [_p_value(m) for m in by_column.get(key, ())]
        tests = [p for p in tests if not math.isnan(p)]
        if tests and 2 * sum(p >= LEVEL for p in tests) >= len(tests):
            found.append(key)
    return tuple(found)


def collapsed(
    by_column: Mapping[ColumnKey, Sequence[Measurement]], main: Sequence[ColumnKey], low: Sequence[ColumnKey]
) -> bool:
    """Whether a row's main metric (the first of `main` that was measured) is at chance."""
    first = next((key for key in main if by_column.get(key)), None)
    return first is not None and first in low


def degenerate(measurements: Sequence[Measurement]) -> dict[tuple[str, str], int]:
    """Return the number of samples with degenerate outputs by (task, variant), the largest over seeds."""
    found: dict[tuple[str, str], int] = {}
    for m in measurements:
        count = float(m.get("degenerate", 0))
        if count > 0:  # concatenated tables may hold NaN
            where = (m["task"], m["variant"])
            found[where] = max(found.get(where, 0), int(count))
    return found


def note_on_references(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a note on dense models that have collapsed themselves, so that nothing is compared with them."""
    names = [f"{row.model} ({row.recipe})" for row in rows if row.dense and row.collapsed]
    if not names:
        return ()
    return (f"Not above chance, so that nothing is called better or worse than it: dense {', '.join(names)}.",)


def _p_value(measurement: Measurement) -> float:
    return float(measurement.get("chance_p", math.nan))
