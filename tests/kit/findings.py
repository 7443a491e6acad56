"""Boards made from numbers, for the tests of sweet spots, Pareto fronts and contests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.rows import Board, Column, ColumnKey, Row
from pruningbench.leaderboard.verdicts import with_verdicts

ACCURACY: ColumnKey = ("sorting", "", "accuracy")
SHARPNESS: ColumnKey = ("looking", "", "sharpness")


def column(
    key: ColumnKey, dimension: str, *, unit: str = "fraction", main: bool = True, up: bool | None = True
) -> Column:
    return Column(*key, " ".join(filter(None, key)), up, unit, (0.0, 1.0), "d1", dimension=dimension, main=main)


COLUMNS = (column(ACCURACY, "accuracy"), column(SHARPNESS, "sharpness", unit=""))
"""An accuracy, and a main metric of another dimension."""


def change(value: float, half: float, p: float, n: int = 400, seeds: int = 1) -> Entry:
    """A difference to dense with a symmetric interval."""
    return Entry(value, value - half, value + half, n, seeds, p=p)


def dense(model: str = "net", values: Mapping[ColumnKey, float] | None = None, recipe: str = "none") -> Row:
    return row(0.0, values or {ACCURACY: 0.9, SHARPNESS: 0.5}, model=model, pruner="dense", recipe=recipe, reference="")


def row(
    sparsity: float,
    values: Mapping[ColumnKey, float],
    changes: Mapping[ColumnKey, Entry] | None = None,
    *,
    model: str = "net",
    pruner: str = "a",
    recipe: str = "none",
    reference: str = "none",
    seeds: Sequence[int] = (0,),
    by_seed: Mapping[ColumnKey, Mapping[int, tuple[float, float]]] | None = None,
    **other: object,
) -> Row:
    cells = {key: Entry(value, math.nan, math.nan, 400, len(seeds)) for key, value in values.items()}
    own = {key: dict.fromkeys(seeds, (value, math.nan)) for key, value in values.items()}
    return Row(
        model=model, pruner=pruner, recipe=recipe, sparsity=sparsity, sparsity_achieved=sparsity, seeds=tuple(seeds),
        rank=None, cells=cells, differences=changes or {}, reference=reference, by_seed=by_seed or own,
        **other,  # type: ignore[arg-type]
    )  # fmt: skip


def board(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> Board:
    """A board of these rows, with the verdicts of their differences."""
    return Board("small", ("small",), tuple(columns), with_verdicts(rows, columns), (), ())


def without_p(rows: Sequence[Row]) -> list[Row]:
    return [replace(one, differences={k: replace(e, p=math.nan) for k, e in one.differences.items()}) for one in rows]
