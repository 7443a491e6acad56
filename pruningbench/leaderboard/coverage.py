"""Which cells of a board pruners can be compared in, and which pruners lack some of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.aggregation import Z
from pruningbench.leaderboard.places import Cells
from pruningbench.leaderboard.rows import Column, Row
from pruningbench.leaderboard.verdicts import blind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Grid:
    """The cells of one model and recipe in which all pruners of a contest have to have a value.

    Attributes:
        model: label.
        pruners: all that have a row, in the order of the rows.
        columns: of the dimension, as far as they were measured on the model.
        sparsities, seeds: those that at least half of the pruners have, ascending.
        measured: sparsities of each pruner.
        collapsed: number of each pruner's rows at these sparsities that have collapsed.
        values: (pruners, columns, seeds, sparsities), higher is better; -inf for a row that is at chance, which comes
            last, NaN for a missing value.
        errors: the standard errors of the values over samples; 0 if unknown.
    """

    model: str
    pruners: tuple[str, ...]
    columns: tuple[Column, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]
    measured: Mapping[str, frozenset[float]]
    collapsed: Mapping[str, int]
    values: NDArray[np.float64]
    errors: NDArray[np.float64]

    def missing(self, pruner: str) -> str:
        """Return what a pruner lacks in words; "" if it has a value in every cell."""
        import numpy as np

        if pruner not in self.measured:
            return f"not measured on {self.model}"
        lacking = [sparsity for sparsity in self.sparsities if sparsity not in self.measured[pruner]]
        if lacking:
            return f"not measured at {', '.join(map(percent, lacking))} on {self.model}"
        gaps = np.argwhere(np.isnan(self.values[self.pruners.index(pruner)]))
        if not len(gaps):
            return ""
        column, seed, sparsity = gaps[0]
        where = f"at {percent(self.sparsities[sparsity])}, seed {self.seeds[seed]}, on {self.model}"
        return f"no value of {self.columns[column].header} {where}"


def grid_of(rows: Sequence[Row], columns: Sequence[Column], fewest: int) -> Grid | None:
    """Return the cells of one model and recipe; None with fewer than `fewest` sparsities or two pruners.

    Args:
        rows: pruned rows of one model and recipe.
        columns: of one dimension, with a direction.
        fewest: smallest number of sparsities.
    """
    rows = [row for row in rows if any(column.key in row.by_seed for column in columns)]
    pruners = tuple(dict.fromkeys(row.pruner for row in rows))
    sparsities = _common(((row.pruner, row.sparsity) for row in rows), len(pruners))
    pairs = ((row.pruner, seed) for row in rows for column in columns for seed in row.by_seed.get(column.key, ()))
    seeds = _common(pairs, len(pruners))
    if len(pruners) < 2 or len(sparsities) < fewest or not seeds:
        return None
    own = tuple(column for column in columns if any(column.key in row.by_seed for row in rows))
    compared = [row for row in rows if row.sparsity in sparsities]
    collapsed = Counter(row.pruner for row in compared if row.collapsed)
    measured = {pruner: frozenset(row.sparsity for row in rows if row.pruner == pruner) for pruner in pruners}
    values, errors = _values(compared, pruners, own, seeds, sparsities)
    return Grid(rows[0].model, pruners, own, sparsities, seeds, measured, collapsed, values, errors)


def _values(
    rows: Iterable[Row],
    pruners: Sequence[str],
    columns: Sequence[Column],
    seeds: Sequence[int],
    sparsities: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import numpy as np

    values = np.full((len(pruners), len(columns), len(seeds), len(sparsities)), math.nan)
    errors = np.zeros_like(values)
    pruner_at = {pruner: i for i, pruner in enumerate(pruners)}
    sparsity_at = {sparsity: i for i, sparsity in enumerate(sparsities)}
    for row in rows:
        p, s = pruner_at[row.pruner], sparsity_at[row.sparsity]
        for c, column in enumerate(columns):
            last, sign = blind(row, column), 1.0 if column.higher_is_better else -1.0
            of_seed = row.by_seed.get(column.key, {})
            for i, seed in enumerate(seeds):
                if seed in of_seed:
                    value, half = of_seed[seed]
                    # what a network at chance leaves undefined is no gap: it comes last anyway
                    values[p, c, i, s] = -math.inf if last else sign * value
                    errors[p, c, i, s] = half / Z if math.isfinite(half) and not last else 0.0
    return values, errors


def _common(pairs: Iterable[tuple[str, Number]], pruners: int) -> tuple[Number, ...]:
    counts = Counter(value for _, value in set(pairs))
    return tuple(sorted(value for value, count in counts.items() if 2 * count >= pruners))


def cells_of(grids: Sequence[Grid], pruners: Sequence[str]) -> Cells:
    """Return the values of pruners, which lack none, in the cells of all grids; a block is a task, model and seed.

    Seeds at which two or more pruners have the very same values, such as pruners without any randomness and without
    training, say the same about these pruners: they are one block.
    """
    import numpy as np

    values, errors, blocks = [], [], []
    clusters: list[int] = []
    strata: list[int] = []
    alone = len(grids)
    for stratum, grid in enumerate(grids):
        chosen = [grid.pruners.index(pruner) for pruner in pruners]
        own = grid.values[chosen]
        values.append(own.reshape(len(chosen), -1))
        errors.append(grid.errors[chosen].reshape(len(chosen), -1))
        first = max(clusters, default=-1) + 1
        of_cell = np.empty(grid.values.shape[1:], dtype=np.int64)
        for task in dict.fromkeys(column.task for column in grid.columns):
            of_task = [i for i, column in enumerate(grid.columns) if column.task == task]
            for seeds in replicates(own[:, of_task]):
                of_cell[np.ix_(of_task, seeds)] = len(strata)
                clusters.append(first + seeds[0])
                # the only block of its stratum is in every draw
                strata.append(stratum if len(seeds) == 1 else alone)
                alone += len(seeds) > 1
        blocks.append(of_cell.ravel())
    return Cells(
        np.concatenate(values, axis=1).T,
        np.concatenate(errors, axis=1).T,
        np.concatenate(blocks).astype(np.int64),
        np.array(clusters, dtype=np.int64),
        np.array(strata, dtype=np.int64),
    )


def replicates(values: NDArray[np.float64]) -> list[list[int]]:
    """Return the seeds in sets: in each, every seed has the values of the first one for at least two pruners.

    Args:
        values: (pruners, columns, seeds, sparsities).
    """
    import numpy as np

    sets: list[list[int]] = []
    for seed in range(values.shape[2]):
        for earlier in sets:
            one, other = values[:, :, seed], values[:, :, earlier[0]]
            same = (one == other).all(axis=(1, 2)) & np.isfinite(one).any(axis=(1, 2))  # not only rows at chance
            if same.sum() > 1:
                earlier.append(seed)
                break
        else:
            sets.append([seed])
    return sets
