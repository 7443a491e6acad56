"""Which cells of a board pruners can be compared in, and which pruners lack some of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.aggregation import Z
from pruningbench.leaderboard.places import Cells
from pruningbench.leaderboard.rows import Column, Row
from pruningbench.leaderboard.verdicts import blind

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Grid:
    """The cells of one model and recipe in which all pruners of a contest have to have a value.

    Attributes:
        model: label.
        pruners: all that have a row, in the order of the rows.
        columns: of the dimension, as far as they were measured on the model.
        sparsities, seeds: those that at least half of the pruners have, ascending.
        rows: by pruner and sparsity.
    """

    model: str
    pruners: tuple[str, ...]
    columns: tuple[Column, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]
    rows: Mapping[tuple[str, float], Row]

    def missing(self, pruner: str) -> str:
        """Return what a pruner lacks in words; "" if it has a value in every cell."""
        if pruner not in self.pruners:
            return f"not measured on {self.model}"
        lacking = [sparsity for sparsity in self.sparsities if (pruner, sparsity) not in self.rows]
        if lacking:
            return f"not measured at {', '.join(map(percent, lacking))} on {self.model}"
        for sparsity in self.sparsities:
            row = self.rows[pruner, sparsity]
            for column in self.columns:
                for seed in self.seeds:
                    if self._lacks(row, column, seed):
                        return f"no value of {column.header} at {percent(sparsity)}, seed {seed}, on {self.model}"
        return ""

    def _lacks(self, row: Row, column: Column, seed: int) -> bool:
        value, _ = row.by_seed.get(column.key, {}).get(seed, (None, None))
        # what a network at chance leaves undefined is no gap: it comes last anyway
        return value is None or (math.isnan(value) and not blind(row, column))

    def collapsed(self, pruner: str) -> int:
        """Return how many of a pruner's rows have collapsed."""
        return sum(self.rows[pruner, sparsity].collapsed for sparsity in self.sparsities)


def grid_of(rows: Sequence[Row], columns: Sequence[Column], fewest: int) -> Grid | None:
    """Return the cells of one model and recipe; None with fewer than `fewest` sparsities or two pruners.

    Args:
        rows: pruned rows of one model and recipe.
        columns: of one dimension, with a direction.
        fewest: smallest number of sparsities.
    """
    keys = {column.key for column in columns}
    rows = [row for row in rows if keys & row.by_seed.keys()]
    pruners = tuple(dict.fromkeys(row.pruner for row in rows))
    sparsities = _common(((row.pruner, row.sparsity) for row in rows), len(pruners))
    seeds = _common(((row.pruner, s) for row in rows for key in keys for s in row.by_seed.get(key, ())), len(pruners))
    if len(pruners) < 2 or len(sparsities) < fewest or not seeds:
        return None
    measured = tuple(column for column in columns if any(column.key in row.by_seed for row in rows))
    of = {(row.pruner, row.sparsity): row for row in rows}
    return Grid(rows[0].model, pruners, measured, sparsities, seeds, of)


def _common(pairs: Iterable[tuple[str, Number]], pruners: int) -> tuple[Number, ...]:
    counts = Counter(value for _, value in set(pairs))
    return tuple(sorted(value for value, count in counts.items() if 2 * count >= pruners))


def cells_of(grids: Sequence[Grid], pruners: Sequence[str]) -> Cells:
    """Return the values of pruners, which lack none, in the cells of all grids; a block is a task, model and seed."""
    import numpy as np

    values, errors, blocks = [], [], []
    numbers: dict[tuple[str, str, int], int] = {}
    for grid in grids:
        for column in grid.columns:
            sign = 1.0 if column.higher_is_better else -1.0
            for seed in grid.seeds:
                block = numbers.setdefault((grid.model, column.task, seed), len(numbers))
                for sparsity in grid.sparsities:
                    rows = [grid.rows[pruner, sparsity] for pruner in pruners]
                    pairs = [(-math.inf, 0.0) if blind(row, column) else row.by_seed[column.key][seed] for row in rows]
                    values.append([-math.inf if blind(row, column) else sign * pair[0]
                                   for row, pair in zip(rows, pairs, strict=True)])  # fmt: skip
                    errors.append([pair[1] / Z if math.isfinite(pair[1]) else 0.0 for pair in pairs])
                    blocks.append(block)
    models = list(dict.fromkeys(model for model, _, _ in numbers))
    clusters = {pair: i for i, pair in enumerate(dict.fromkeys((model, seed) for model, _, seed in numbers))}
    return Cells(
        np.array(values),
        np.array(errors),
        np.array(blocks, dtype=np.int64),
        np.array([clusters[model, seed] for model, _, seed in numbers], dtype=np.int64),
        np.array([models.index(model) for model, _, _ in numbers], dtype=np.int64),
    )
