"""Tests of differences: for one seed, for several seeds on the same samples, and for many tests at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pruningbench.contract.statistics import Floats

LEVEL = 0.05
"""Significance level of the marks of a table, for all its tests together."""


@dataclass(frozen=True)
class Spread:
    """A mean with its standard error and the error's degrees of freedom (infinite if the error is taken as known)."""

    value: float
    error: float
    freedom: float

    def interval(self) -> tuple[float, float]:
        """Return the limits of the 95 % interval from Student's distribution."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, 0.975)) * self.error if self.error else 0.0
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Return the two-sided p-value of the hypothesis that the true mean is zero."""
        from scipy.special import stdtr

        if not self.error:
            return 0.0 if self.value else 1.0
        return float(2 * stdtr(self.freedom, -abs(self.value) / self.error))


def crossed(values: Floats) -> Spread:
    """Return the mean and its spread over random seeds and samples, if all seeds are measured on the same samples.

    In the model ``v[s, i] = mean + a[s] + b[i] + e[s, i]`` with random seeds and samples, an unbiased estimate of the
    variance of the mean is ``(MS_a + MS_b - MS_e) / (S N)``, with the mean squares of the two-way analysis of
    variance. It is exact where a hierarchical bootstrap is not, because resamples of two or three seeds vary too
    little, and it needs no random numbers. The mean squares of rows or columns alone are a lower bound. The degrees of
    freedom are Satterthwaite's. If seeds agree, this is Student's test over samples; if samples agree, over seeds.

    Args:
        values: (S, N) with S >= 2 seeds and N >= 2 samples, all defined.

    Source: S. R. Searle, G. Casella and C. E. McCulloch, Variance Components, 1992, chapter 4; F. E. Satterthwaite,
    1946; on bootstraps of such data: A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics, 2007.
    """
    seeds, samples = values.shape
    mean = float(values.mean())
    of_seeds, of_samples = values.mean(axis=1), values.mean(axis=0)
    left = values - of_seeds[:, None] - of_samples[None, :] + mean
    squares = (
        (samples * float(((of_seeds - mean) ** 2).sum()) / (seeds - 1), seeds - 1),
        (seeds * float(((of_samples - mean) ** 2).sum()) / (samples - 1), samples - 1),
        (float((left**2).sum()) / ((seeds - 1) * (samples - 1)), (seeds - 1) * (samples - 1)),
    )
    (a, _), (b, _), (e, _) = squares
    total = max(a + b - e, a, b)
    scatter = math.fsum(square**2 / freedom for square, freedom in squares)
    return Spread(mean, math.sqrt(total / (seeds * samples)), total**2 / scatter if scatter else math.inf)


def paired_p_value(values: Floats, reference: Floats) -> float:
    """Return the two-sided p-value that two conditions do not differ on the same samples.

    The test is McNemar's exact test if all values are 0 or 1, and Student's paired test otherwise; the p-value is NaN
    for fewer than two samples.

    Args:
        values: (N,), all defined.
        reference: the same for the other condition.
    """
    import numpy as np

    if len(values) < 2:
        return math.nan
    difference = values - reference
    if np.isin(values, (0.0, 1.0)).all() and np.isin(reference, (0.0, 1.0)).all():
        from scipy.special import bdtr

        more, less = int((difference > 0).sum()), int((difference < 0).sum())
        return min(1.0, 2 * float(bdtr(min(more, less), more + less, 0.5))) if more + less else 1.0
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return Spread(float(difference.mean()), error, len(difference) - 1).p_value()


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that all tests together have the significance level of one test.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
