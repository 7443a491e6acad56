"""Friedman's test and Nemenyi's critical difference: whether ranks over several blocks differ, and which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def friedman(ranks: NDArray[np.float64]) -> tuple[float, float]:
    """Return Friedman's statistic, corrected for ties, and its p-value from the chi-square distribution.

    With few blocks the p-value is rather too large: for three competitors, two blocks can never reach .05.

    Args:
        ranks: (B, k) ranks of k competitors in each of B blocks, 1 = best; equal competitors share mean ranks.

    Returns:
        (statistic, p); (NaN, NaN) for fewer than two blocks or competitors; (0, 1) if all are equal in every block.

    Source: M. Friedman, JASA 1937; on ties: W. J. Conover, Practical Nonparametric Statistics, 1999, section 5.8.
    """
    import numpy as np
    from scipy.special import chdtrc

    blocks, competitors = ranks.shape
    if blocks < 2 or competitors < 2:
        return math.nan, math.nan
    middle = (competitors + 1) / 2
    spread = float(((ranks - middle) ** 2).sum())  # of all ranks: smaller with ties
    if spread == 0:
        return 0.0, 1.0
    between = float(((ranks.sum(axis=0) - blocks * middle) ** 2).sum())
    statistic = (competitors - 1) * between / spread
    return statistic, float(np.clip(chdtrc(competitors - 1, statistic), 0.0, 1.0))


def smallest_p(competitors: int, blocks: int) -> float:
    """Return the p-value of Friedman's test if all blocks agree without ties, the smallest that it can have.

    1 for fewer than two blocks or competitors.
    """
    from scipy.special import chdtrc

    if competitors < 2 or blocks < 2:
        return 1.0
    return float(chdtrc(competitors - 1, blocks * (competitors - 1)))


def critical_difference(competitors: int, blocks: int, level: float = 0.05) -> float:
    """Return how much two mean ranks must differ at least so that Nemenyi's test calls them different.

    ``q sqrt(k (k + 1) / (6 B))``, with the upper quantile q of the studentised range of k normal variables (with
    infinite degrees of freedom), divided by the square root of two. NaN for fewer than two blocks or competitors.

    Source: P. Nemenyi, 1963; J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006,
    section 3.2.2 and table 5.
    """
    if competitors < 2 or blocks < 2:
        return math.nan
    quantile = studentised_range(competitors, level) / math.sqrt(2)
    return quantile * math.sqrt(competitors * (competitors + 1) / (6 * blocks))


@lru_cache(maxsize=256)
def studentised_range(competitors: int, level: float = 0.05) -> float:
    """Return the upper quantile of the range of k independent standard normal variables.

    The distribution function is ``k * integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1)``, see H. L. Harter, Tables of
    range and studentized range, 1960. SciPy has it too, in a module that takes half a second to import; its root
    finders take a tenth, so the quantile is found by bisection.
    """
    import numpy as np
    from scipy.special import ndtr

    z = np.linspace(-9.0, 9.0, 4001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    step = float(z[1] - z[0])

    low, high = 0.0, 30.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        inside = (ndtr(z) - ndtr(z - middle)) ** (competitors - 1)
        below = competitors * float((density * inside).sum()) * step < 1 - level
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def groups_of(mean_ranks: Sequence[float], difference: float) -> tuple[tuple[int, ...], ...]:
    """Return the largest sets of competitors within which no two mean ranks differ by `difference` or more.

    Args:
        mean_ranks: ascending.
        difference: the critical difference.

    Returns:
        positions in `mean_ranks`; sets may overlap, and each competitor is in at least one.
    """
    groups: list[tuple[int, ...]] = []
    for first, lowest in enumerate(mean_ranks):
        group = tuple(i for i in range(first, len(mean_ranks)) if mean_ranks[i] - lowest < difference or i == first)
        if not groups or group[-1] > groups[-1][-1]:
            groups.append(group)
    return tuple(groups)
