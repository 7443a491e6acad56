"""Sweet spots of simulated runs: planted ones are found, and none are found where there are none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from kit.findings import ACCURACY, board, column, dense, row
from numpy.typing import NDArray
from scipy import stats

from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.sweetspots import SweetSpot, sweet_spots

METRICS = tuple(("looking", "", f"metric-{i}") for i in range(3))
KEYS = (ACCURACY, *METRICS)
COLUMNS = (column(ACCURACY, "accuracy"), *(column(key, "looking", unit="") for key in METRICS))
CELLS = tuple((pruner, sparsity) for pruner in ("a", "b") for sparsity in (0.5, 0.8, 0.9))
SAMPLES = 150
PLANTED = 2
"""The row with the planted sweet spot."""
EFFECT = 5.0
"""Size of the planted improvement, in standard errors of its paired difference."""


def simulate(runs: int, seed: int, planted: NDArray[np.float64] | float = 0.0) -> Iterator[tuple[SweetSpot, ...]]:
    """Sweet spots of simulated runs with one model: 6 rows, an accuracy and 3 metrics, 150 samples, a shared reference.

    Values of a row and of the reference are normal with variance 1 (for accuracy, a hundredth), so that differences to
    the reference are correlated between rows. Both the intervals and the p-values are Student's.
    """
    rng = np.random.default_rng(seed)
    shape = (runs, len(CELLS), len(KEYS), SAMPLES)
    values = rng.standard_normal(shape, dtype=np.float32)
    reference = rng.standard_normal((runs, 1, len(KEYS), SAMPLES), dtype=np.float32)
    differences = (values - reference).astype(np.float64)
    differences[:, :, 0] *= 0.01
    mean = differences.mean(axis=3) + planted
    error = differences.std(axis=3, ddof=1) / np.sqrt(SAMPLES)
    half = stats.t.ppf(0.975, SAMPLES - 1) * error
    p = 2 * stats.t.sf(np.abs(mean) / error, SAMPLES - 1)
    level = dict.fromkeys(KEYS, 0.5)
    for run in range(runs):
        rows = [dense(values=level)]
        for i, (pruner, sparsity) in enumerate(CELLS):
            entries = {
                key: Entry(d, d - h, d + h, SAMPLES, 1, p=own)
                for key, d, h, own in zip(KEYS, *(a[run, i].tolist() for a in (mean, half, p)), strict=True)
            }
            rows.append(row(sparsity, level, entries, pruner=pruner))
        yield sweet_spots(board(rows, COLUMNS), epsilon=0.02)


def test_runs_without_sweet_spots_rarely_show_one() -> None:
    """At most 5 % of 1000 runs in which nothing differs show any sweet spot, although accuracy is nearly always kept."""
    wrong = tested = uncorrected = 0
    for spots in simulate(1000, seed=12):
        points = [(spot, point) for spot in spots for point in spot.points]
        wrong += any(point.sweet for _, point in points)
        kept = [point for _, point in points if point.accuracy == "kept"]
        tested += len(kept) == len(points) == len(CELLS) * len(KEYS)
        uncorrected += any(p.difference is not None and p.difference.low > 0 for p in kept)
    assert tested > 950
    assert 0 < wrong <= 50
    assert uncorrected > 250  # so many would be wrong without the correction


def test_a_planted_sweet_spot_is_found() -> None:
    """An improvement of five standard errors is found in at least 90 % of runs, and nothing else in 95 %."""
    planted = np.zeros((len(CELLS), len(KEYS)))
    planted[PLANTED, 1] = EFFECT * np.sqrt(2 / SAMPLES)
    # Holm's first step compares with .05 / 24, so that this is the probability to exceed its critical value
    power = stats.nct.sf(stats.t.isf(0.05 / 24 / 2, SAMPLES - 1), SAMPLES - 1, EFFECT)
    runs = 200
    found = others = 0
    for spots in simulate(runs, seed=5, planted=planted):
        at = {(s.pruner, s.key, sparsity) for s in spots for sparsity in s.sparsities}
        target = (CELLS[PLANTED][0], METRICS[0], CELLS[PLANTED][1])
        found += target in at
        others += bool(at - {target})
    assert power > 0.9
    assert found / runs >= power - 3 * np.sqrt(power * (1 - power) / runs)
    assert others <= 0.05 * runs


def test_no_sweet_spot_where_accuracy_falls() -> None:
    """The same improvement is no sweet spot where accuracy falls by five times epsilon."""
    planted = np.zeros((len(CELLS), len(KEYS)))
    planted[PLANTED, 1] = EFFECT * np.sqrt(2 / SAMPLES)
    planted[PLANTED, 0] = -0.1
    target = (CELLS[PLANTED][0], METRICS[0])
    for spots in simulate(50, seed=6, planted=planted):
        (spot,) = [s for s in spots if (s.pruner, s.key) == target]
        assert CELLS[PLANTED][1] not in spot.sparsities
        assert {s.lost_at for s in spots if (s.pruner, s.key) == (target[0], ACCURACY)} == {CELLS[PLANTED][1]}
