"""Pareto fronts: pruned models that no other beats in sparsity, accuracy and a further metric at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.leaderboard.rows import Board, Column, ColumnKey, Row
from pruningbench.leaderboard.sweetspots import accuracy_columns
from pruningbench.leaderboard.verdicts import blind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DECIMALS = 3
"""Achieved sparsities are compared rounded to as many decimals, so that single weights decide nothing."""


@dataclass(frozen=True)
class ParetoPoint:
    """A row on a front.

    Attributes:
        pruner, recipe, sparsity: of the row; sparsity 0 is a dense model.
        sparsity_achieved: rounded to `DECIMALS` decimals; the target if it is unknown.
        accuracy, value: of the row in the front's two columns, in their own units and directions.
    """

    pruner: str
    recipe: str
    sparsity: float
    sparsity_achieved: float
    accuracy: float
    value: float


@dataclass(frozen=True)
class ParetoFront:
    """The rows of one model that no other row beats in sparsity, accuracy and one further metric.

    A row beats another if it is at least as good in all of them and better in one. Equal rows are all on the front.
    Values are compared as they are, without regard to their intervals.

    Attributes:
        model: label.
        dimension: the ability that `column` measures.
        column: task, variant and metric of the further metric; the same as `accuracy` for the front of accuracy itself.
        accuracy: task, variant and metric of the accuracy.
        points: rows on the front, ascending by sparsity, pruner and recipe.
        compared: number of rows compared, those of the front included.
        excluded: number of rows left out: collapsed, at chance in one of the columns, or without a value.
    """

    model: str
    dimension: str
    column: ColumnKey
    accuracy: ColumnKey
    points: tuple[ParetoPoint, ...]
    compared: int
    excluded: int


def pareto_fronts(board: Board, columns: Iterable[ColumnKey] | None = None) -> tuple[ParetoFront, ...]:
    """Return the fronts of sparsity, accuracy and each further metric, per model.

    Args:
        board: what `pruningbench.leaderboard.build` returned.
        columns: the further metrics; by default the main metric of each task and variant. One without a direction has
            no front.

    Returns:
        One front for each model, accuracy (see `pruningbench.contract.ACCURACY`) and column, in the order of the board.
        An accuracy is not combined with another accuracy. None without an accuracy.
    """
    wanted = None if columns is None else set(columns)
    chosen = [
        column
        for column in board.columns
        if column.higher_is_better is not None and (column.main if wanted is None else column.key in wanted)
    ]
    accuracies = accuracy_columns(board)
    models: dict[str, list[Row]] = {}
    for row in board.rows:
        models.setdefault(row.model, []).append(row)
    return tuple(
        front
        for model, rows in models.items()
        for accuracy in accuracies
        for column in chosen
        if column.key == accuracy.key or column not in accuracies
        if (front := _front(model, rows, column, accuracy)) is not None
    )


def non_dominated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of (N, K) rows no other row dominates, if higher is better in every column.

    A row dominates another if it is nowhere lower and somewhere higher; equal rows do not dominate each other. NaN is
    not allowed.

    Returns:
        (N,) flags.
    """
    import numpy as np

    front: list[int] = []
    # in descending order, a row can only be dominated by earlier ones, and then also by one that is on the front
    for i in np.lexsort(-values.T[::-1]):
        earlier = values[front]
        if not ((earlier >= values[i]).all(axis=1) & (earlier > values[i]).any(axis=1)).any():
            front.append(int(i))
    flags = np.zeros(len(values), dtype=np.bool_)
    flags[front] = True
    return flags


def _front(model: str, rows: Sequence[Row], column: Column, accuracy: Column) -> ParetoFront | None:
    import numpy as np

    measured = [row for row in rows if column.key in row.cells and accuracy.key in row.cells]
    points = [_point(row, column, accuracy) for row in measured if not blind(row, column) and not blind(row, accuracy)]
    points = [point for point in points if not (math.isnan(point.accuracy) or math.isnan(point.value))]
    if not points:
        return None
    objectives = np.array([[p.sparsity_achieved, p.accuracy, p.value] for p in points])
    objectives[:, 1] *= 1 if accuracy.higher_is_better else -1
    objectives[:, 2] *= 1 if column.higher_is_better else -1
    on_front = [point for point, kept in zip(points, non_dominated(objectives), strict=True) if kept]
    on_front.sort(key=lambda p: (p.sparsity_achieved, p.pruner, p.recipe, p.sparsity))
    excluded = len(rows) - len(points)
    return ParetoFront(model, column.dimension, column.key, accuracy.key, tuple(on_front), len(points), excluded)


def _point(row: Row, column: Column, accuracy: Column) -> ParetoPoint:
    known = not math.isnan(row.sparsity_achieved)
    achieved = round(row.sparsity_achieved if known else row.sparsity, DECIMALS)
    return ParetoPoint(
        row.pruner, row.recipe, row.sparsity, achieved, row.cells[accuracy.key].value, row.cells[column.key].value
    )
