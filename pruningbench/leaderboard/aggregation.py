"""Combines the seeds of one condition into one value with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pruningbench.leaderboard.inference import Variances

Z = 1.96
"""Half the width of a normal 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Entry:
    """One value of a board.

    Attributes:
        value: mean over the seeds on which the metric is defined; NaN if there are none.
        low, high: limits of the 95 % interval, see `average`; NaN if unknown.
        n: number of defined samples behind the value, the smallest over its seeds.
        seeds: number of seeds behind the value; 0 if it is NaN on all.
        best: whether no other row of the same model and sparsity is better in this column, and some
            row is worse.
        p: for a difference, the two-sided p-value that there is none; `p_holm`: the same, adjusted for all tests of
            the model's table. NaN for other values.
        variances: what the interval of several seeds is made of; None for one seed, or if it is unknown.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int
    best: bool = False
    p: float = math.nan
    p_holm: float = math.nan
    variances: Variances | None = field(default=None, compare=False, repr=False)

    @property
    def half_width(self) -> float:
        """Half the width of the interval; NaN if unknown."""
        return (self.high - self.low) / 2


def average(measurements: Sequence[Mapping[str, Any]]) -> Entry:
    """Average the measurements of one condition, one per seed.

    A single seed keeps its bootstrap interval over samples. For several seeds, tables use `inference.crossed` if the
    values of all samples are stored (`Pairs.mean`), and what follows if they are not. For S seeds with values v_s and
    intervals of width w_s, the limits are::

        mean(v) +- t(df) sqrt( A + B ),    A = var(v) / S,    B = mean((w_s / 3.92) ** 2)

    with the unbiased variance between seeds and the 97.5 % quantile t of Student's distribution, because A is estimated
    from only S values. The degrees of freedom are Satterthwaite's, df = (A + B)^2 / (A^2 / (S - 1)), with B taken as
    known: df = S - 1 if samples add no variance (t = 12.7 for two seeds, 4.3 for three), and t = 1.96 if seeds agree.
    All seeds are measured on the same samples, so more seeds reduce the first term but not the second,
    which is the uncertainty due to the sample of images. A seed without an interval is left out of the second term.

    Args:
        measurements: mappings with ``value ci_low ci_high n``.

    Source: F. E. Satterthwaite, An approximate distribution of estimates of variance components, Biometrics
    Bulletin 2, 1946.
    """
    defined = [m for m in measurements if not math.isnan(m["value"])]
    if not defined:
        return Entry(math.nan, math.nan, math.nan, 0, 0)
    n = min(int(m["n"]) for m in defined)
    if len(defined) == 1:
        only = defined[0]
        return Entry(float(only["value"]), float(only["ci_low"]), float(only["ci_high"]), n, 1)
    values = [float(m["value"]) for m in defined]
    count = len(values)
    mean = sum(values) / count
    if not math.isfinite(mean):
        return Entry(mean, math.nan, math.nan, n, count)
    between, within = _variances(defined, mean)
    half = _quantile(between, within, count) * math.sqrt(between + within)
    known = Variances(count, math.inf, between, within) if between or within else None
    return Entry(mean, mean - half, mean + half, n, count, variances=known)


def p_value_of_mean(entry: Entry) -> float:
    """Return the two-sided p-value that a mean of differences, one per seed, is zero; variances as in `average`.

    NaN for a single seed, and for seeds that agree without intervals of their own: then nothing is known about how far
    the mean may be off.
    """
    if entry.variances is None:
        return math.nan
    return entry.variances.spread(entry.value).p_value()


def _variances(defined: Sequence[Mapping[str, Any]], mean: float) -> tuple[float, float]:
    """Return the variance of the mean due to seeds, and the variance due to samples."""
    count = len(defined)
    between = sum((float(m["value"]) - mean) ** 2 for m in defined) / (count - 1)
    widths = [float(m["ci_high"]) - float(m["ci_low"]) for m in defined]
    errors = [(width / (2 * Z)) ** 2 for width in widths if math.isfinite(width)]
    return between / count, sum(errors) / len(errors) if errors else 0.0


def _freedom(between: float, within: float, seeds: int) -> float:
    """Return the degrees of freedom of the sum of two variances, the first estimated from `seeds` values."""
    return (seeds - 1) * (1 + within / between) ** 2 if between else math.inf


def _quantile(between: float, within: float, seeds: int) -> float:
    """Return the 97.5 % quantile for the sum of these two variances."""
    if between == 0:
        return Z
    from scipy.special import stdtrit

    return float(stdtrit(_freedom(between, within, seeds), 0.975))
