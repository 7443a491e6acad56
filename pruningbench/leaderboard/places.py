"""Places of competitors in many cells at once, ranks in blocks of cells, and how sure their means are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

VALUES = 300_000
"""About how many values are drawn in all: 1000 draws of 300 values, or fewer of more."""
FEWEST = 100
"""Smallest number of draws, however many values there are."""
AT_A_TIME = 1_000_000
"""Largest number of values that are drawn at a time."""


@dataclass(frozen=True)
class Cells:
    """Values of k competitors in C comparable cells.

    Attributes:
        values: (C, k), higher is better; -inf for a competitor that comes last.
        errors: (C, k) standard errors over samples, 0 if unknown.
        blocks: (C,) number of the block of each cell, from 0.
        clusters: (B,) for each block, what is drawn together with it: its model's seed.
        strata: (B,) for each block, within what its cluster is drawn: its model.
    """

    values: Floats
    errors: Floats
    blocks: Integers
    clusters: Integers
    strata: Integers


def places(values: Floats) -> Floats:
    """Return the place of each value in its row, 1 = highest; equal values share the mean of their places.

    Args:
        values: (..., k) without NaN.
    """
    import numpy as np

    competitors = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    better = np.zeros(competitors.shape, dtype=np.int16)
    for other in competitors:  # few competitors and many cells: faster than sorting
        better += other > competitors
        better += other >= competitors
    return np.moveaxis((better + 1) / 2, 0, -1)


def block_ranks(values: Floats, blocks: Integers) -> Floats:
    """Return the rank of each competitor in each block, by its mean place over the cells of the block.

    Args:
        values: (..., C, k), higher is better.
        blocks: (C,) number of the block of each cell, from 0.

    Returns:
        (..., B, k) ranks, 1 = best.
    """
    import numpy as np

    within = np.zeros((int(blocks.max()) + 1, len(blocks)))
    within[blocks, np.arange(len(blocks))] = 1.0
    # sums of halves are exact, so equal competitors stay equal
    return places(-(within @ places(values)))


def interval_of_ranks(cells: Cells, draws: int) -> tuple[Floats, Floats]:
    """Return the limits of the 95 % intervals of the mean ranks over blocks.

    In each draw, every value is moved by its standard error times an independent standard normal number, and the
    clusters of each stratum are drawn with replacement. The random numbers depend on the shape of the cells only.

    Args:
        cells: what is ranked.
        draws: largest number of draws; for many cells it is less, at least `FEWEST`.

    Returns:
        (low, high), each (k,).
    """
    import numpy as np

    count = cells.values.size
    draws = min(draws, max(VALUES // count, FEWEST))
    rng = np.random.default_rng([*cells.values.shape, draws])
    step = max(1, AT_A_TIME // count)
    means = []
    for start in range(0, draws, step):
        number = min(step, draws - start)
        noise = rng.standard_normal((number, *cells.values.shape))
        ranks = block_ranks(cells.values + cells.errors * noise, cells.blocks)
        weights = _weights(cells, number, rng)
        means.append((weights[:, :, None] * ranks).sum(axis=1) / weights.sum(axis=1)[:, None])
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)
    return low, high


def _weights(cells: Cells, number: int, rng: np.random.Generator) -> Floats:
    """Return (number, B): how often the cluster of each block is drawn."""
    import numpy as np

    weights = np.ones((number, len(cells.clusters)))
    for stratum in np.unique(cells.strata):
        inside = cells.strata == stratum
        members, position = np.unique(cells.clusters[inside], return_inverse=True)
        drawn = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=number)
        weights[:, inside] = drawn[:, position]
    return weights
