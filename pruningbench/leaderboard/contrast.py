"""The outcome of comparing two sets of results: what is better, worse, new, gone, or not comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pruningbench.errors import UsageError, did_you_mean
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.rows import Verdict

FAIL_ON = ("worse", "missing", "any", "none")
"""What `Contrast.failure` may look for."""


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


@dataclass(frozen=True)
class Unmatched:
    """A value that only one side has, or that cannot be compared, and the reason ("" if there is none)."""

    place: Place
    seeds: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class Contrast:
    """Two sets of results compared; ``print`` shows it as text.

    Attributes:
        before_name, after_name: names of the two sides.
        changes: values that both sides have.
        new: values that only the later side has; `gone`: values that only the earlier side has, or that failed.
        incomparable: values that both sides have, but that say nothing about each other.
        margins: whether a margin was given.
        notes: further differences between the sides, such as versions of libraries.
    """

    before_name: str
    after_name: str
    changes: tuple[Change, ...]
    new: tuple[Unmatched, ...]
    gone: tuple[Unmatched, ...]
    incomparable: tuple[Unmatched, ...]
    margins: bool = False
    notes: tuple[str, ...] = ()

    @property
    def better(self) -> tuple[Change, ...]:
        """Significantly better values, the smallest p-value first."""
        return self._with(lambda change: change.verdict == "better")

    @property
    def worse(self) -> tuple[Change, ...]:
        """Significantly worse values, the smallest p-value first; without those whose loss is within the margin."""
        return self._with(lambda change: change.verdict == "worse" and not change.within_margin)

    @property
    def tolerated(self) -> tuple[Change, ...]:
        """Significantly worse values whose loss is shown to be smaller than the margin."""
        return self._with(lambda change: change.verdict == "worse" and bool(change.within_margin))

    @property
    def undecided(self) -> tuple[Change, ...]:
        """Values that are not significantly worse, but whose loss may be as large as the margin."""
        return self._with(lambda change: change.verdict is None and change.within_margin is False)

    @property
    def parts(self) -> dict[str, int]:
        """What the two sides were made from differently -> number of values that this concerns."""
        return dict(Counter(part for change in self.changes for part in change.parts))

    def failure(self, fail_on: str = "worse") -> str:
        """Return why the later side fails, in words, or "" if it passes.

        Args:
            fail_on: ``worse``: a value is significantly worse; ``missing``: a value is gone; ``any``: either, or a
                value is not comparable, or its loss may be as large as the margin; ``none``: nothing. If nothing
                could be compared, all but ``none`` fail.

        Raises:
            UsageError: for another word.
        """
        if fail_on not in FAIL_ON:
            raise UsageError(f"fail-on {fail_on!r} is none of {', '.join(FAIL_ON)}{did_you_mean(fail_on, FAIL_ON)}")
        if fail_on == "none":
            return ""
        if not self.changes:
            return "nothing could be compared"
        counts = {
            "worse": len(self.worse) if fail_on in ("worse", "any") else 0,
            "gone": len(self.gone) if fail_on in ("missing", "any") else 0,
            "not comparable": len(self.incomparable) if fail_on == "any" else 0,
            "not shown to be within the margin": len(self.undecided) if fail_on == "any" else 0,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def _with(self, wanted: Callable[[Change], bool]) -> tuple[Change, ...]:
        chosen = [change for change in self.changes if wanted(change)]
        return tuple(sorted(chosen, key=lambda change: (change.difference.p_holm, change.difference.p, change.place)))

    def __str__(self) -> str:
        from pruningbench.leaderboard.contrast_text import as_text

        return as_text(self)
