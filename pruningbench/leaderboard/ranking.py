"""Ranks within a group of competing rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

RANK = (
    "place (1 = best) among the rows of the same model and sparsity: "
    "mean over the tasks, and within a task over its columns with an arrow"
)
"""Explanation of the result of `mean_ranks` on a board, for legends."""


def ranks(values: Sequence[float], higher_is_better: bool) -> list[float]:
    """Return the place of each value, 1 = best; equal values share the mean of their places.

    NaN is last; all NaN share the mean of the last places.
    """
    keys = [(math.isnan(v), 0.0 if math.isnan(v) else -v if higher_is_better else v) for v in values]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    places = [0.0] * len(keys)
    better = 0
    for _, equal in groupby(order, key=keys.__getitem__):
        same = list(equal)
        for i in same:
            places[i] = better + (len(same) + 1) / 2
        better += len(same)
    return places


def mean_ranks(
    table: Sequence[Mapping[Key, float]], directions: Mapping[Key, bool], task_of: Callable[[Key], Hashable]
) -> list[float | None]:
    """Return, for each row, the mean over tasks of its mean place in the columns of the task.

    Each task has the same weight, however many columns it has. A row that lacks a column counts as last there.

    Args:
        table: competing rows: column -> value; a column that was not measured is absent.
        directions: ranked columns, and whether higher is better.
        task_of: the task that a column belongs to.

    Returns:
        One mean place >= 1 per row; None for a row that has none of the columns.
    """
    places: list[dict[Hashable, list[float]]] = [{} for _ in table]
    for key, higher_is_better in directions.items():
        if not any(key in row for row in table):
            continue
        column = ranks([row.get(key, math.nan) for row in table], higher_is_better)
        for own, place in zip(places, column, strict=True):
            own.setdefault(task_of(key), []).append(place)
    means = [[sum(task) / len(task) for task in own.values()] for own in places]
    return [
        sum(own) / len(own) if own and any(key in row for key in directions) else None
        for own, row in zip(means, table, strict=True)
    ]


def best_of(table: Sequence[Mapping[Key, float]], directions: Mapping[Key, bool]) -> list[set[Key]]:
    """Return, for each row, the columns in which it is best; no row is best if all defined values are equal."""
    marked: list[set[Key]] = [set() for _ in table]
    for key, higher_is_better in directions.items():
        defined = {i: row[key] for i, row in enumerate(table) if key in row and not math.isnan(row[key])}
        if len(set(defined.values())) < 2:
            continue
        best = max(defined.values()) if higher_is_better else min(defined.values())
        for i, value in defined.items():
            if value == best:
                marked[i].add(key)
    return marked
