"""What a comparison of results consists of: changes of values, and values without a counterpart."""

from __future__ import annotations

from dataclasses import dataclass

from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.rows import Verdict


@dataclass(frozen=True, order=True)
class Place:
    """What a value was measured on and by: the row and the column of a board."""

    model: str
    pruner: str
    recipe: str
    sparsity: float
    task: str
    variant: str
    metric: str


@dataclass(frozen=True)
class Change:
    """A value that both sides measured, on the same samples and seeds.

    Attributes:
        place: where it stands.
        seeds: the seeds that are compared, ascending.
        before, after: means over these seeds; NaN if the metric is undefined on both sides.
        difference: after minus before, paired over samples, with a 95 % interval, the two-sided p-value `p`, and
            `p_holm`, adjusted for all tests of the comparison (NaN if it is not one of them).
        higher_is_better: direction of the metric; without one there is no verdict.
        unit: unit of the metric.
        verdict: ``better`` or ``worse`` if the adjusted p-value is at most `inference.LEVEL`; else None.
        within_margin: whether the interval excludes a loss as large as the margin; None without a margin.
        same: whether both values are equal and were made from the same network, data and code, so that nothing is
            tested.
        parts: what the two values were made from differently, in words.
    """

    place: Place
    seeds: tuple[int, ...]
    before: float
    after: float
    difference: Entry
    higher_is_better: bool | None
    unit: str = ""
    verdict: Verdict | None = None
    within_margin: bool | None = None
    same: bool = False
    parts: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether no sample differs, so that no test could call the value different."""
        entry = self.difference
        return self.same or (entry.value == entry.low == entry.high == 0 and entry.p == 1)


@dataclass(frozen=True)
class Unmatched:
    """A value that only one side has, or that cannot be compared, and the reason ("" if there is none)."""

    place: Place
    seeds: tuple[int, ...]
    reason: str = ""
