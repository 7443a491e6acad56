"""Bootstrap intervals: an independent computation, coverage, and the degenerate cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pruningbench.contract.statistics import Estimate, Floats, bootstrap, mean


def test_the_mean_equals_an_independent_computation() -> None:
    values = np.random.default_rng(0).exponential(size=57)
    rng = np.random.default_rng([57, 400])
    draws = sorted(np.mean([values[i] for i in rng.integers(0, 57, size=57)]) for _ in range(400))

    def quantile(q: float) -> float:
        position = q * 399
        low = math.floor(position)
        return draws[low] + (position - low) * (draws[low + 1] - draws[low])

    estimate = bootstrap(values, level=0.9, resamples=400)
    assert estimate.value == pytest.approx(math.fsum(values) / 57, rel=1e-12)
    assert estimate.low == pytest.approx(quantile(0.05), rel=1e-12)
    assert estimate.high == pytest.approx(quantile(0.95), rel=1e-12)
    assert (estimate.n, estimate.undefined) == (57, 0)


@pytest.mark.parametrize("n", [50, 4001])
def test_the_fast_path_equals_any_other_statistic(n: int) -> None:
    values = np.random.default_rng(1).normal(size=n)
    fast, slow = bootstrap(values), bootstrap(values, lambda v: float(v.mean()))
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), rel=1e-9)


def test_width_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(2).normal(size=2000)
    estimate = bootstrap(values)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(2000), rel=0.08)


def test_coverage_on_normal_data() -> None:
    rng = np.random.default_rng(3)
    intervals = [bootstrap(rng.normal(5.0, 2.0, size=60), resamples=300) for _ in range(400)]
    covered = sum(e.low <= 5 <= e.high for e in intervals)
    assert 0.92 <= covered / 400 <= 0.97  # a 95 % percentile interval of 60 samples covers a little less


def test_the_interval_is_limited_to_the_range_and_the_resamples_are_not() -> None:
    """Shares of samples in a similarity near 0: their mean is in [0, 1], while resamples fall below."""
    values = np.random.default_rng(1).normal(0.02, 0.3, size=100)
    values += 0.02 - values.mean()
    free, limited = (bootstrap(values, limits=limits) for limits in ((-math.inf, math.inf), (0.0, 1.0)))
    assert free.low < 0 == limited.low
    assert (limited.value, limited.high, limited.n) == (free.value, free.high, free.n)
    spread = [bootstrap(values, np.median, limits=(0.0, bound)).draws for bound in (0.01, 1.0)]
    assert spread[0] is not None and np.array_equal(spread[0], np.asarray(spread[1])) and spread[0].min() < 0


def test_undefined_samples_are_counted_and_left_out() -> None:
    values = np.array([1.0, np.nan, 3.0, np.nan, 5.0])
    estimate, clean = bootstrap(values), bootstrap(np.array([1.0, 3.0, 5.0]))
    assert estimate == Estimate(clean.value, clean.low, clean.high, n=3, undefined=2)
    assert estimate.value == 3.0


@pytest.mark.parametrize("values", [np.zeros(0), np.array([np.nan, np.nan])])
def test_nothing_defined_is_nan(values: Floats) -> None:
    estimate = bootstrap(values)
    assert all(math.isnan(v) for v in (estimate.value, estimate.low, estimate.high))
    assert (estimate.n, estimate.undefined) == (0, len(values))


def test_one_sample_has_no_interval() -> None:
    estimate = bootstrap(np.array([2.5, np.nan]))
    assert (estimate.value, estimate.n, estimate.undefined) == (2.5, 1, 1)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_equal_samples_have_an_interval_of_no_width() -> None:
    estimate = bootstrap(np.full(10, 0.25))
    assert (estimate.value, estimate.low, estimate.high) == (0.25, 0.25, 0.25)


def test_a_statistic_of_several_columns() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=200)
    pairs = np.stack([x, 2 * x + rng.normal(size=200)], axis=1)
    pairs[3, 1] = np.nan

    def correlation(columns: Floats) -> float:
        return float(np.corrcoef(columns.T)[0, 1])

    estimate = bootstrap(pairs, correlation, resamples=200)
    assert (estimate.n, estimate.undefined) == (199, 1)
    assert estimate.value == pytest.approx(correlation(np.delete(pairs, 3, axis=0)))
    assert 0.8 < estimate.low < estimate.value < estimate.high < 1


def test_deterministic_and_paired() -> None:
    values = np.random.default_rng(5).normal(size=30)
    assert bootstrap(values) == bootstrap(values.copy())
    state = np.random.get_state()[1].tolist()
    shifted = bootstrap(values + 10)
    assert np.random.get_state()[1].tolist() == state
    # both draw the same samples, so the interval moves by exactly the shift
    assert shifted.low - bootstrap(values).low == pytest.approx(10)


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = np.random.default_rng(6).normal(size=100)
    narrow, wide = bootstrap(values, level=0.5), bootstrap(values, level=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"values must be \(N,\) or \(N, K\) with K >= 1, got shape \(1, 1, 1\)"):
        bootstrap(np.zeros((1, 1, 1)))
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="level must lie in"):
            bootstrap(np.zeros(3), level=level)
    assert mean(np.array([1.0, 2.0])) == 1.5


@pytest.mark.parametrize("n", [2, 7, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("k", [1, 3])
def test_the_mean_of_several_columns_is_that_of_the_samples_means(n: int, k: int) -> None:
    values = np.random.default_rng(n).normal(size=(n, k))
    assert bootstrap(values) == bootstrap(values.mean(axis=1))
    with pytest.raises(ValueError, match="K >= 1"):
        bootstrap(values[:, :0])
