"""A run with a limited time: what it starts, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pruningbench.suite.cells import Cell

if TYPE_CHECKING:
    from pruningbench.harness.events import CellJob
    from pruningbench.harness.forecast import Forecast


class Budget:
    """Admits jobs as long as they are likely to end in time.

    A job of which nothing is known is admitted while any time is left.

    Args:
        seconds: time from now.
        forecast: says how long a job will take, and learns while the run goes on.
        clock: seconds, for tests.

    Attributes:
        refused: number of jobs that were not admitted.
        left: number of their task runs.
    """

    def __init__(self, seconds: float, forecast: Forecast, clock: Callable[[], float] = time.monotonic) -> None:
        self._forecast, self._clock = forecast, clock
        self._end = clock() + seconds
        self.refused = self.left = 0

    def admits(self, job: CellJob) -> bool:
        """Whether to start a job now."""
        left = self._end - self._clock()
        fits = left > 0 and self._forecast.of(job) <= left
        self.refused += not fits
        self.left += 0 if fits else len(job.tasks)
        return fits


def most_informative_first(jobs: Sequence[CellJob]) -> list[CellJob]:
    """Order jobs so that a run that stops early says something about everything, and not all about something.

    Dense cells come first, because all others are compared with them; then, seed by seed, the sparsities of each curve
    from coarse to fine (the middle one, then those between it and the ends), each over all models, pruners and
    recipes in the order of the plan.
    """
    sparsities = sorted({job.cell.sparsity for job in jobs if job.cell.pruner is not None})
    fineness = dict(zip(sparsities, _depths(len(sparsities)), strict=True))
    seeds = list(dict.fromkeys(job.cell.seed for job in jobs))

    def rank(cell: Cell) -> tuple[int, int, int]:
        if cell.pruner is None:
            return 0, seeds.index(cell.seed), 0
        return 1 + seeds.index(cell.seed), fineness[cell.sparsity], sparsities.index(cell.sparsity)

    return sorted(jobs, key=lambda job: rank(job.cell))


def _depths(count: int) -> list[int]:
    """Return at which step each of so many points in order is reached by halving: 0 for the one in the middle."""
    depths = [0] * count
    parts, depth = [(0, count)], 0
    while parts:
        halves = []
        for start, end in parts:
            if start < end:
                middle = (start + end) // 2
                depths[middle] = depth
                halves += [(start, middle), (middle + 1, end)]
        parts, depth = halves, depth + 1
    return depths
