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

        mean(v) +- 1.96 sqrt( var(v) / S  +  mean((w_s / 3.92) ** 2) )

    with the unbiased variance between seeds. All seeds are measured on the same samples, so more seeds
    make the first term smaller, but not the second, which is the uncertainty of the sample of images.
    A seed without an interval adds nothing to the second term.

    Args:
        measurements: mappings with ``value ci_low ci_high n``.
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
    half = Z * math.sqrt(between / count + within)
    return Entry(mean, mean - half, mean + half, n, count)
