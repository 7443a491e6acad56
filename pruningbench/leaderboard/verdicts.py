"""Decides which rows are better or worse than their dense reference."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.inference import LEVEL, holm
from pruningbench.leaderboard.pooling import cautious
from pruningbench.leaderboard.rows import Column, ColumnKey, Row, Verdict


def with_verdicts(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """Return the rows with their verdicts, corrected for the number of tests.

    The family of tests is a model's table: the differences of all its rows in all columns with a direction, except
    differences to a reference that is itself at chance, which get no verdict. A difference gets a verdict if its
    p-value, adjusted by Holm's method for this family, is at most `inference.LEVEL`; the probability that any mark of
    the table is wrong is then at most that level. A value at chance is never called better. Over several seeds, the
    p-values are those of `pooling.cautious`.
    """
    rows = _with_cautious_p(rows)
    dense = {(row.model, row.recipe): row for row in rows if row.dense}
    tests: dict[str, list[tuple[int, ColumnKey, float]]] = {}
    for i, row in enumerate(rows):
        reference = dense.get((row.model, row.reference))
        for column in columns:
            change = row.differences.get(column.key)
            if reference is None or change is None or column.higher_is_better is None or blind(reference, column):
                continue
            if not math.isnan(change.p):
                tests.setdefault(row.model, []).append((i, column.key, change.p))
    adjusted: dict[int, dict[ColumnKey, float]] = {}
    for family in tests.values():
        for (i, key, _), p in zip(family, holm([p for _, _, p in family]), strict=True):
            adjusted.setdefault(i, {})[key] = p
    return tuple(_judged(row, columns, adjusted.get(i, {})) for i, row in enumerate(rows))


def _with_cautious_p(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with p-values of differences over several seeds that small variances by chance do not lower."""
    keys = {(i, key): entry for i, row in enumerate(rows) for key, entry in row.differences.items() if entry.variances}
    if not keys:
        return list(rows)

    def of_recipe(place: tuple[int, ColumnKey]) -> tuple[Hashable, ...]:
        return (rows[place[0]].model, rows[place[0]].recipe, place[1])

    def of_pruner(place: tuple[int, ColumnKey]) -> tuple[Hashable, ...]:
        return (*of_recipe(place), rows[place[0]].pruner)

    changed: dict[int, dict[ColumnKey, Entry]] = {}
    for (i, key), spread in cautious(keys, (of_pruner, of_recipe)).items():
        changed.setdefault(i, {})[key] = replace(keys[i, key], p=spread.p_value())
    return [replace(row, differences={**row.differences, **changed.get(i, {})}) for i, row in enumerate(rows)]


def _judged(row: Row, columns: Sequence[Column], adjusted: Mapping[ColumnKey, float]) -> Row:
    verdicts: dict[ColumnKey, Verdict] = {}
    for column in columns:
        if adjusted.get(column.key, 1.0) > LEVEL:
            continue
        better = (row.differences[column.key].value > 0) == column.higher_is_better
        if not better:
            verdicts[column.key] = "worse"
        elif not blind(row, column):
            verdicts[column.key] = "better"
    changed = {key: replace(change, p_holm=adjusted.get(key, math.nan)) for key, change in row.differences.items()}
    return replace(row, verdicts=verdicts, differences=changed)


def blind(row: Row, column: Column) -> bool:
    """Return whether a row has collapsed, or is at chance in the task of a column."""
    return row.collapsed or column.task in {key[0] for key in row.at_chance}
