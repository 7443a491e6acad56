"""Small statistics: means that count undefined values, and bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.uint16]


@dataclass(frozen=True)
class Estimate:
    """A statistic of per-sample values with its interval.

    Attributes:
        value: the statistic over the defined samples; NaN if there are none.
        low, high: limits of the interval; NaN with fewer than two defined samples.
        n: number of defined (not NaN) samples.
        undefined: number of NaN samples, which the statistic leaves out.
        draws: (resamples,) the statistic on each resample, kept for statistics other than the mean. Two
            conditions with the same defined samples are resampled alike, so their draws are paired.
    """

    value: float
    low: float
    high: float
    n: int
    undefined: int
    draws: Floats | None = field(default=None, compare=False, repr=False)


def mean(values: Floats) -> float:
    """Return the arithmetic mean of an (N,) array."""
    return float(values.mean())


@lru_cache(maxsize=8)
def _resample_counts(n: int, resamples: int) -> Counts:
    """Return (resamples, n) counts: how often each of n samples is drawn in each resample.

    The stream depends on n and `resamples` only, so two conditions measured on the same samples are
    resampled alike and their intervals can be compared.
    """
    rng = np.random.default_rng([n, resamples])
    counts = np.empty((resamples, n), dtype=np.uint16)  # kept in memory, so a small type
    for i in range(resamples):
        counts[i] = np.bincount(rng.integers(0, n, size=n), minlength=n)
    counts.setflags(write=False)
    return counts


def bootstrap(
    values: Floats,
    statistic: Callable[[Floats], float] = mean,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Estimate a statistic of per-sample values with a percentile bootstrap interval.

    Args:
        values: (N,) float array; NaN marks a sample on which the metric is undefined. A statistic of
            several columns takes (N, K), and a sample is undefined if any column is NaN. The mean of (N, K)
            is the mean of the samples' means, for any N and K >= 1.
        statistic: maps (n,) or (n, K) values to a number; the mean has a fast path.
        level: coverage of the interval, in (0, 1).
        resamples: number of bootstrap resamples.
        limits: range of the statistic, to which the interval is limited. Resamples of values that are no samples of the
            statistic themselves, such as the shares of samples in a CKA, may leave it; they are returned as they are.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in (1, 2) or 0 in values.shape[1:]:
        raise ValueError(f"values must be (N,) or (N, K) with K >= 1, got shape {values.shape}")
    if statistic is mean and values.ndim == 2:
        values = values.mean(axis=1)
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    undefined_rows = np.isnan(values) if values.ndim == 1 else np.isnan(values).any(axis=1)
    defined = values[~undefined_rows]
    n, undefined = len(defined), int(undefined_rows.sum())
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, undefined)
    value = float(statistic(defined))
    if n == 1:
        return Estimate(value, float("nan"), float("nan"), 1, undefined)
    draws = _mean_draws(defined, resamples) if statistic is mean else _draws(defined, statistic, resamples)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    if limits[0] <= value <= limits[1]:  # an interval holds its value, also one that is impossible
        low, high = np.clip([low, high], *limits)
    return Estimate(value, float(low), float(high), n, undefined, None if statistic is mean else draws)


def paired_bootstrap(
    values: Floats,
    reference: Floats,
    statistic: Callable[[Floats], float] = mean,
    *,
    level: float = 0.95,
    resamples: int = 1000,
) -> Estimate:
    """Estimate how much a statistic differs between two conditions measured on the same samples.

    Each resample draws the same samples for both, so what a sample contributes to both cancels out: the interval
    is far narrower than two separate intervals would suggest.

    Args:
        values: (N,) or (N, K), one row per sample.
        reference: the same for the other condition, row i from the same sample as row i of `values`. A sample
            that is NaN in either is undefined.
        statistic: as for `bootstrap`, like `level` and `resamples`.
        level: coverage of the interval, in (0, 1).
        resamples: number of bootstrap resamples.

    Returns:
        ``statistic(values) - statistic(reference)`` with its interval.

    Raises:
        ValueError: if the shapes differ.
    """
    values, reference = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if values.shape != reference.shape or values.ndim not in (1, 2):
        raise ValueError(f"paired values must have one shape, (N,) or (N, K), got {values.shape} and {reference.shape}")
    if statistic is mean and values.ndim == 1:
        with np.errstate(invalid="ignore"):  # infinity minus infinity: undefined, and counted as such
            return bootstrap(values - reference, level=level, resamples=resamples)
    columns = values.reshape(len(values), -1).shape[1]

    def difference(pairs: Floats) -> float:
        own_values, reference_values = pairs[:, :columns], pairs[:, columns:]
        flat = values.ndim == 1
        return statistic(own_values[:, 0] if flat else own_values) - statistic(
            reference_values[:, 0] if flat else reference_values
        )

    pairs = np.concatenate([values.reshape(len(values), -1), reference.reshape(len(values), -1)], axis=1)
    return bootstrap(pairs, difference, level=level, resamples=resamples)


PICKS = 1 << 20
"""Number of indices that are drawn at a time."""


class Aggregate(Protocol):
    """A statistic that also computes many resamples at once, with the same bits."""

    def __call__(self, values: Floats, /) -> float:
        """Return the statistic."""
        ...

    def each(self, values: Floats, picks: NDArray[np.int64], /) -> Floats:
        """Return the statistic of each of (R, m) picks of rows, (R,)."""
        ...


def _draws(values: Floats, statistic: Callable[[Floats], float] | Aggregate, resamples: int) -> Floats:
    """Return the statistic of each resample; the stream of indices depends on the number of values alone."""
    n = len(values)
    each = getattr(statistic, "each", None)
    if each is None:
        return np.array([statistic(values[picks[0]]) for picks in _picks(n, resamples, 1)])
    return np.concatenate([each(values, picks) for picks in _picks(n, resamples, max(1, PICKS // n))])


def _picks(n: int, resamples: int, count: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of all resamples, (up to `count`, n) at a time."""
    if n * resamples <= PICKS:
        kept = _kept_picks(n, resamples).astype(np.int64)
        yield from (kept[start : start + count] for start in range(0, resamples, count))
        return
    rng = np.random.default_rng([n, resamples])
    for start in range(0, resamples, count):
        yield np.stack([rng.integers(0, n, size=n) for _ in range(min(count, resamples - start))])


@lru_cache(maxsize=8)
def _kept_picks(n: int, resamples: int) -> NDArray[np.uint32]:
    """Return the indices of all resamples, (resamples, n): all metrics and cells with as many values share them."""
    rng = np.random.default_rng([n, resamples])
    picks = np.empty((resamples, n), dtype=np.uint32)  # kept in memory, so a small type
    for i in range(resamples):
        picks[i] = rng.integers(0, n, size=n)
    picks.setflags(write=False)
    return picks


def _mean_draws(values: Floats, resamples: int) -> Floats:
    n = len(values)
    if n * resamples <= 4_000_000:
        # numpy's own pairwise sums, not BLAS: the same bits for any number of threads
        draws: Floats = (_resample_counts(n, resamples) * values).sum(axis=1) / n
        return draws
    rng = np.random.default_rng([n, resamples])
    return np.array([values[rng.integers(0, n, size=n)].mean() for _ in range(resamples)])


SLACK = 1e-6
"""By how much a number may lie outside its range, relative to its size, because of rounding."""


def within(value: float, limits: tuple[float, float]) -> bool:
    """Whether a value lies in a range, up to rounding; NaN, which is no value, always does."""
    slack = SLACK * max(abs(value), 1.0) if math.isfinite(value) else 0.0
    return not (value < limits[0] - slack or value > limits[1] + slack)
