"""How sure it is that the best pruner is the best: paired comparisons of the best row with the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pruningbench.contract.reporting import Measurement
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.inference import LEVEL, Spread
from pruningbench.leaderboard.measurements import Measurements, column_key, row_key
from pruningbench.leaderboard.pooling import cautious
from pruningbench.leaderboard.provenance import without_repeats
from pruningbench.leaderboard.rows import Board, Column, ColumnKey, Row, RowKey
from pruningbench.site.answers import Line, mean_of_tasks

if TYPE_CHECKING:
    import pandas as pd

Z = 1.96
"""Half the width of a normal 95 % interval, in standard errors."""
MOST = 20_000
"""Most paired comparisons of one board; beyond, rows are compared by their intervals alone."""
NEEDED = (
    "status", "run", "cell", "model", "pruner", "recipe", "sparsity", "seed", "task", "variant", "metric",
    "value", "ci_low", "ci_high", "n", "data_fingerprint", "mark",
)  # fmt: skip

_Known = tuple[Spread, float]
"""A difference with its standard error, and the p-value that there is none."""


class Contenders:
    """Compares rows of a board in its main metrics, sample by sample.

    Args:
        board: the board.
        results: the measurements that the board was made from.
        pairs: reads per-sample values.
        columns: the main metrics.
    """

    def __init__(self, board: Board, results: pd.DataFrame, pairs: Pairs, columns: Sequence[Column]) -> None:
        self._pairs = pairs
        self._measured = _measurements(board, results, columns)
        self._known: dict[tuple[RowKey, RowKey, ColumnKey], Entry | None] = {}
        self.left = MOST
        """How many comparisons may still be made."""

    def not_behind(self, best: Row, others: Sequence[Row], line: Line, scales: Mapping[ColumnKey, float]) -> list[int]:
        """Return the places of the other rows that are not significantly behind the best one in a line.

        The p-value of a row is that of the paired difference of its metric to the best row's; with several metrics it
        comes from their mean and the mean of their standard errors, which is safe however they depend on each other.
        Over several seeds, standard errors are those of `pooling.cautious`.
        It is corrected for all pairs of rows, see `corrected`. A row without per-sample values is not behind, because
        nothing shows it.
        """
        found = {column.key: self._differences(best, others, column) for column in line.columns}
        p = [self._p_value(i, found, line, scales) for i in range(len(others))]
        return [i for i, value in enumerate(corrected(p)) if not value <= LEVEL]

    def _p_value(
        self, place: int, found: Mapping[ColumnKey, Mapping[int, _Known]], line: Line, scales: Mapping[ColumnKey, float]
    ) -> float:
        """Return the two-sided p-value that the best row does not differ from another in a line; NaN if unknown."""
        parts: dict[str, list[tuple[float, ...]]] = {}
        freedom, only = math.inf, math.nan
        for column in line.columns:
            if place not in found[column.key]:
                return math.nan
            spread, only = found[column.key][place]
            sign = 1 if column.higher_is_better else -1
            scale = scales[column.key]
            parts.setdefault(column.task, []).append((sign * spread.value / scale, spread.error / scale))
            freedom = min(freedom, spread.freedom)
        mean, error = mean_of_tasks(parts)
        if math.isnan(error) or mean <= 0:  # on the samples that both have, the best row may be behind
            return math.nan
        if len(line.columns) == 1:
            return only
        return Spread(mean, error, freedom).p_value()

    def _differences(self, best: Row, others: Sequence[Row], column: Column) -> dict[int, _Known]:
        """Return the paired differences of the best row to the others in a metric, where they are known."""
        entries = {i: entry for i, other in enumerate(others) if (entry := self._difference(best, other, column))}
        spreads = cautious(entries, (lambda _: column.key,))
        return {
            i: (spreads[i], spreads[i].p_value())
            if i in spreads
            else (Spread(entry.value, entry.half_width / Z, math.inf), entry.p)
            for i, entry in entries.items()
        }

    def _difference(self, one: Row, other: Row, column: Column) -> Entry | None:
        """Return the paired difference of two rows in a metric; None if it is unknown."""
        key = (_key(one), _key(other), column.key)
        if key not in self._known:
            if self.left <= 0:
                return None
            self.left -= 1
            mine, theirs = (self._measured.get((_key(row), column.key), {}) for row in (one, other))
            shared = sorted(mine.keys() & theirs.keys())
            pairs = [(mine[seed], theirs[seed]) for seed in shared]
            self._known[key] = self._pairs.over_seeds(pairs) if pairs else None
        return self._known[key]


def corrected(p: Sequence[float]) -> list[float]:
    """Return the p-values of the best of several rows against each other one, corrected for how it was chosen.

    Which row is the best is known only after looking at all of them, so the family is all pairs of rows, not only the
    pairs with the best one (Bonferroni's method). NaN stays NaN.
    """
    pairs = (len(p) + 1) * len(p) / 2
    return [value if math.isnan(value) else min(1.0, value * pairs) for value in p]


def _key(row: Row) -> RowKey:
    return (row.model, row.pruner, row.recipe, row.sparsity)


def _measurements(
    board: Board, results: pd.DataFrame, columns: Sequence[Column]
) -> dict[tuple[RowKey, ColumnKey], dict[int, Measurement]]:
    """Return the measurements that the board shows in these columns, by row and column, and by seed."""
    data = {column.key: column.data_fingerprint for column in columns}
    asked = Measurements.of(
        results[
            results["task"].isin({column.task for column in columns})
            & results["metric"].isin({column.metric for column in columns})
        ][list(NEEDED)]
    )
    same = [line.place for line in asked if data.get(column_key(line)) == str(line["data_fingerprint"] or "")]
    kept, _ = without_repeats(asked.at(same))
    rows = {_key(row) for row in board.rows}
    found: dict[tuple[RowKey, ColumnKey], dict[int, Measurement]] = {}
    for line in kept:
        row = row_key(line)
        if row in rows:
            found.setdefault((row, column_key(line)), {})[int(line["seed"])] = line
    return found
