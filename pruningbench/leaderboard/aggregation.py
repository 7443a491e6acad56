"""From the seeds of one condition to one value with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Z = 1.96
"""Half the width of a normal 95 % interval in standard errors."""


@dataclass(frozen=True)
class Entry:
    """One value of a board.

    Attributes:
        value: mean over the seeds on which the metric is defined; NaN when there is none.
        low, high: limits of the 95 % interval, see `average`; NaN when unknown.
        n: defined samples behind the value: the smallest number of any of its seeds.
        seeds: number of seeds behind the value; 0 when it is NaN on all.
        best: whether no other row of the same model and sparsity is better in this column, and some
            row is worse.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int
    best: bool = False

    @property
    def half_width(self) -> float:
        """Half the width of the interval; NaN when unknown."""
        return (self.high - self.low) / 2


def average(measurements: Sequence[Mapping[str, Any]]) -> Entry:
    """Average the measurements of one condition, one a seed.

    One seed keeps its bootstrap interval over samples. Of S seeds, with values v_s and intervals of
    width w_s, the limits are::

        mean(v) +- t(df) sqrt( A + B ),    A = var(v) / S,    B = mean((w_s / 3.92) ** 2)

    with the unbiased variance between seeds and the 97.5 % quantile t of Student's distribution, for A is estimated
    from S values only. Its degrees of freedom are Satterthwaite's, df = (A + B)^2 / (A^2 / (S - 1)), with B taken as
    known: S - 1 where samples add nothing (t = 12.7 for two seeds, 4.3 for three), and 1.96 where seeds agree.
    All seeds are measured on the same samples, so more seeds make the first term smaller, but not the second,
    which is the uncertainty of the sample of images. A seed without an interval adds nothing to the second term.

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
    between = sum((value - mean) ** 2 for value in values) / (count - 1)
    widths = [float(m["ci_high"]) - float(m["ci_low"]) for m in defined]
    errors = [(width / (2 * Z)) ** 2 for width in widths if math.isfinite(width)]
    within = sum(errors) / len(errors) if errors else 0.0
    half = _quantile(between / count, within, count) * math.sqrt(between / count + within)
    return Entry(mean, mean - half, mean + half, n, count)


def _quantile(between: float, within: float, seeds: int) -> float:
    """Return the 97.5 % quantile for the sum of two variances, of which the first is estimated from `seeds` values."""
    if between == 0:
        return Z
    from scipy.special import stdtrit

    return float(stdtrit((seeds - 1) * (1 + within / between) ** 2, 0.975))
