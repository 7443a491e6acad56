"""Places within a group of rows that compete."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def ranks(values: Sequence[float], higher_is_better: bool) -> list[float]:
    """Return the place of each value, 1 = best; equal values share the mean of their places.

    NaN is last, and all NaN share the last places.
    """
    keys = [math.inf if math.isnan(v) else -v if higher_is_better else v for v in values]
    undefined = [math.isnan(v) for v in values]
    order = [(missing, key) for missing, key in zip(undefined, keys, strict=True)]
    # places better+1 .. better+same are shared by `same` equal values
    return [sum(o < own for o in order) + (sum(o == own for o in order) + 1) / 2 for own in order]


def mean_ranks(table: Sequence[Mapping[Key, float]], directions: Mapping[Key, bool]) -> list[float | None]:
    """Return for each row the mean of its places over the columns it has.

    Args:
        table: rows that compete: column -> value; a column that was not measured is absent, and the
            row is ranked by its other columns.
        directions: ranked columns, and whether higher is better.

    Returns:
        A mean place >= 1 a row; None for a row that has none of the columns.
    """
    places: list[list[float]] = [[] for _ in table]
    for key, higher_is_better in directions.items():
        having = [i for i, row in enumerate(table) if key in row]
        for i, place in zip(having, ranks([table[i][key] for i in having], higher_is_better), strict=True):
            places[i].append(place)
    return [sum(own) / len(own) if own else None for own in places]


def best_of(table: Sequence[Mapping[Key, float]], directions: Mapping[Key, bool]) -> list[set[Key]]:
    """Return for each row the columns in which it is best; none where all defined values are equal."""
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
