"""Tests whether a network is better than an answer that ignores the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.statistics import Floats

LEVEL = 0.05
"""One-sided significance level at which a main metric has to exceed its chance level."""


def above_chance(
    values: Floats, chance: Floats, statistic: Callable[[Floats], float] | None = None, *, higher_is_better: bool = True
) -> float:
    """Return the one-sided p-value of the hypothesis that a metric is no better than a constant answer.

    Both are measured on the same samples, and the test is paired:

    * values of 0 and 1: McNemar's exact test, binomial over the samples on which the two differ;
    * other values aggregated by their mean: Student's t test of the differences;
    * any other statistic: the share of 1000 paired resamples in which it is not better, (1 + k) / 1001.

    Args:
        values: (N,) or (N, K); NaN = undefined, left out. Without any defined sample nothing exceeds chance: 1.
        chance: the same for the constant answer.
        statistic: what the metric aggregates with; None for the mean.
        higher_is_better: the metric's direction.

    Returns:
        A number in [0, 1].

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    import numpy as np

    from pruningbench.contract.statistics import mean, paired_bootstrap

    sign = 1.0 if higher_is_better else -1.0
    if values.ndim == 2 or statistic not in (None, mean):
        draws = paired_bootstrap(values, chance, statistic or mean).draws
        defined_draws = draws[~np.isnan(draws)] if draws is not None else np.empty(0)
        return float((1 + (sign * defined_draws <= 0).sum()) / (1 + len(defined_draws)))
    defined = ~(np.isnan(values) | np.isnan(chance))
    own_values, chance_values = values[defined], chance[defined]
    if not len(own_values):
        return 1.0
    difference = sign * (own_values - chance_values)
    if np.isin(own_values, (0.0, 1.0)).all() and np.isin(chance_values, (0.0, 1.0)).all():
        return _mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    return _student(difference)


def _mcnemar(better: int, worse: int) -> float:
    """Return the probability of at least `better` heads of a fair coin in ``better + worse`` throws."""
    from scipy.special import bdtrc

    return float(bdtrc(better - 1, better + worse, 0.5)) if better else 1.0


def _student(difference: Floats) -> float:
    from scipy.special import stdtr

    n, centre = len(difference), float(difference.mean())
    spread = float(difference.std(ddof=1)) if n > 1 else 0.0
    if spread == 0:
        return 0.0 if n > 1 and centre > 0 else 1.0
    return float(stdtr(n - 1, -centre / (spread / n**0.5)))


def commonest(labels: Tensor) -> int | None:
    """Return the most common integer label, the best constant answer; None if all are equal or there are none.

    Among equally common labels it is the lowest. Labels below 0 do not count.
    """
    labelled = labels.flatten()[labels.flatten() >= 0]
    counts = labelled.bincount() if len(labelled) else labelled
    return int(counts.argmax()) if int((counts > 0).sum()) > 1 else None
