"""Variances between seeds from several rows together, because two or three seeds agree by chance far too often."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.inference import Spread, Variances

FEWEST = 3
"""Smallest number of differences whose variances are pooled."""
SHARED = 0.25
"""Squared correlation of differences to the same reference, if it varies between seeds as much as they do."""

Key = TypeVar("Key", bound=Hashable)


def cautious(differences: Mapping[Key, Entry], groups: Sequence[Callable[[Key], Hashable]]) -> dict[Key, Spread]:
    """Return the spread of each difference over several seeds that is the safer one: its own, or that of its group.

    The variance between S seeds has S - 1 degrees of freedom. With three seeds, one estimate in ten is less than a
    tenth of the truth, and Satterthwaite's formula then even takes it as well known. At the levels of a test that is
    corrected for hundreds of others, such estimates make most of the significant differences. Differences of the same
    metric at other sparsities have about the same variance between seeds. The mean over a group is far less often too
    small; a difference is called significant only if it is with either estimate.

    With n variances v in a group and a common reference, the mean has about ``(S - 1) / (1 / m + (1 - 1 / m) / 4)``
    degrees of freedom, where ``m = sum(v)^2 / sum(v^2)`` counts the variances that contribute.

    Args:
        differences: mean differences over seeds; those without `Entry.variances` are left out of the result.
        groups: functions that return the group of a difference, the narrowest groups first: the first group that has
            `FEWEST` differences is taken.

    Returns:
        The spreads, by the same keys. Where seeds do not vary at all, or too few differences do, they are the own ones.

    Source: on moderated variances: G. K. Smyth, Linear models and empirical Bayes methods for assessing differential
    expression, Statistical Applications in Genetics and Molecular Biology, 2004.
    """
    known = {key: (entry.value, entry.variances) for key, entry in differences.items() if entry.variances is not None}
    spreads = {key: parts.spread(value) for key, (value, parts) in known.items()}
    varying = {key: parts for key, (_, parts) in known.items() if parts.of_seeds > 0}
    pools = [_pools(varying, group) for group in groups]
    for key, parts in varying.items():
        pool = next(
            (p for group, of in zip(groups, pools, strict=True) if (p := of.get((group(key), parts.seeds)))), None
        )
        if pool is None:
            continue
        own, joint = spreads[key], parts.spread(spreads[key].value, *pool)
        spreads[key] = max(own, joint, key=lambda spread: spread.p_value())
    return spreads


def _pools(
    varying: Mapping[Key, Variances], group: Callable[[Key], Hashable]
) -> dict[tuple[Hashable, int], tuple[float, float]]:
    """Return the mean variance and its degrees of freedom of each group that is large enough, by group and seeds."""
    found: dict[tuple[Hashable, int], list[float]] = {}
    for key, parts in varying.items():
        found.setdefault((group(key), parts.seeds), []).append(parts.of_seeds)
    return {of: _pooled(own, of[1]) for of, own in found.items() if len(own) >= FEWEST}


def _pooled(own: Iterable[float], seeds: int) -> tuple[float, float]:
    values = list(own)
    total = sum(values)
    share = sum((value / total) ** 2 for value in values)  # 1 / m
    return total / len(values), (seeds - 1) / (share + (1 - share) * SHARED)
