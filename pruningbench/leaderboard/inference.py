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
NOTHING = 1e-12
"""A standard error that is at most this share of its mean is rounding: no difference varies."""


@dataclass(frozen=True)
class Spread:
    """A mean with its standard error and the error's degrees of freedom (infinite if the error is taken as known).

    Attributes:
        value: the mean.
        error: its standard error.
        freedom: degrees of freedom of the error.
        least: p-value of a mean that is not zero and has no error; NaN, which no test accepts, if nothing is known
            about the error.
    """

    value: float
    error: float
    freedom: float
    least: float = math.nan

    def interval(self) -> tuple[float, float]:
        """Return the limits of the 95 % interval from Student's distribution."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, 0.975)) * self.error if self.error else 0.0
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Return the two-sided p-value of the hypothesis that the true mean is zero."""
        from scipy.special import stdtr

        if self.error <= NOTHING * abs(self.value):
            return self.least if self.value else 1.0
        return float(2 * stdtr(self.freedom, -abs(self.value) / self.error))


@dataclass(frozen=True)
class Variances:
    """What the variance of a mean over seeds and samples consists of.

    Attributes:
        seeds: number of seeds, >= 2.
        samples: number of samples; infinite if `of_samples` is taken as known.
        of_seeds: variance of the mean that the scatter of the seeds' means shows.
        of_samples: the same of the samples' means.
        left: the part of both that their interaction explains, which would be counted twice.
    """

    seeds: int
    samples: float
    of_seeds: float
    of_samples: float
    left: float = 0.0

    def spread(self, mean: float, of_seeds: float | None = None, freedom: float | None = None) -> Spread:
        """Return the spread of the mean, by default with its own variance between seeds.

        Args:
            mean: the mean.
            of_seeds: another estimate of that variance, with its degrees of freedom.
            freedom: these degrees of freedom.
        """
        a = self.of_seeds if of_seeds is None else of_seeds
        of_a = self.seeds - 1.0 if freedom is None else freedom
        of_b = self.samples - 1
        total = max(a + self.of_samples - self.left, a, self.of_samples)
        parts = ((a, of_a), (self.of_samples, of_b), (self.left, (self.seeds - 1) * of_b))
        scatter = math.fsum(part**2 / own for part, own in parts)
        least = 2.0 ** (1 - self.samples) if math.isfinite(self.samples) else math.nan
        return Spread(mean, math.sqrt(total), total**2 / scatter if scatter else math.inf, least)


def crossed(values: Floats) -> Spread:
    """Return the mean and its spread over random seeds and samples, if all seeds are measured on the same samples.

    In the model ``v[s, i] = mean + a[s] + b[i] + e[s, i]`` with random seeds and samples, an unbiased estimate of the
    variance of the mean is ``(MS_a + MS_b - MS_e) / (S N)``, with the mean squares of the two-way analysis of
    variance. It is exact where a hierarchical bootstrap is not, because resamples of two or three seeds vary too
    little, and it needs no random numbers. The mean squares of rows or columns alone are a lower bound. The degrees of
    freedom are Satterthwaite's. If seeds agree, this is Student's test over samples; if samples agree, over seeds.

    The 95 % interval covers about as often as it says. A p-value far below .05 does not: two or three seeds agree by
    chance far too often. Tests that are corrected for many take `pooling.cautious`.

    Args:
        values: (S, N) with S >= 2 seeds and N >= 2 samples, all defined.

    Source: S. R. Searle, G. Casella and C. E. McCulloch, Variance Components, 1992, chapter 4; F. E. Satterthwaite,
    1946; on bootstraps of such data: A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics, 2007.
    """
    return variances(values).spread(float(values.mean()))


def variances(values: Floats) -> Variances:
    """Return what the variance of the mean consists of, see `crossed`.

    Args:
        values: (S, N) with S >= 2 seeds and N >= 2 samples, all defined.
    """
    seeds, samples = values.shape
    mean = float(values.mean())
    of_seeds, of_samples = values.mean(axis=1), values.mean(axis=0)
    left = values - of_seeds[:, None] - of_samples[None, :] + mean
    return Variances(
        seeds,
        samples,
        float(((of_seeds - mean) ** 2).sum()) / (seeds - 1) / seeds,
        float(((of_samples - mean) ** 2).sum()) / (samples - 1) / samples,
        float((left**2).sum()) / ((seeds - 1) * (samples - 1)) / (seeds * samples),
    )


def paired_p_value(values: Floats, reference: Floats) -> float:
    """Return the two-sided p-value that two conditions do not differ on the same samples.

    The test is McNemar's exact test if all values are 0 or 1, and Student's paired test otherwise; the p-value is NaN
    for fewer than two samples. If all differences are equal, Student's test knows no p-value, and the sign test is
    taken: a few samples of a metric with few values are no proof.

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
    return Spread(float(difference.mean()), error, len(difference) - 1, 2.0 ** (1 - len(difference))).p_value()


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
