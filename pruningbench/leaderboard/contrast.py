"""The outcome of comparing two sets of results: what is better, worse, new, gone, or not comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pruningbench.base.text import displayable, displayable_lines
from pruningbench.errors import UsageError, did_you_mean
from pruningbench.leaderboard.changes import Change, Unmatched
from pruningbench.leaderboard.contrast_words import change_words, column_words, grouped_lines, row_words
from pruningbench.leaderboard.inference import LEVEL
from pruningbench.leaderboard.numbers import number

FAIL_ON = ("worse", "missing", "any", "none")
"""What `Contrast.failure` may look for."""
SHOWN = 40
"""Largest number of values that a section of the text lists."""


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
            raise UsageError(f"fail-on {fail_on!r} is not one of {', '.join(FAIL_ON)}{did_you_mean(fail_on, FAIL_ON)}")
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

    def changed_sections(self) -> dict[str, tuple[Change, ...]]:
        """Return the changes that a reader should see, by title; without empty sections."""
        sections = {
            "worse": self.worse,
            "better": self.better,
            "worse, by less than the margin": self.tolerated,
            "undecided: not significantly worse, but the loss may be as large as the margin": self.undecided,
        }
        return {title: changes for title, changes in sections.items() if changes}

    def listed_sections(self) -> dict[str, list[str]]:
        """Return lines on everything else, by title; without empty sections."""
        sections = {
            "not comparable": grouped_lines(self.incomparable),
            "gone": grouped_lines(self.gone),
            "new": grouped_lines(self.new),
            "made from other parts": [
                f"{part}: {count} {'value' if count == 1 else 'values'}" for part, count in self.parts.items()
            ],
            "notes": list(self.notes),
        }
        return {title: lines for title, lines in sections.items() if lines}

    def headline(self, fail_on: str = "worse") -> str:
        """Return the verdict and the counts in one line."""
        why = self.failure(fail_on)
        verdict = "not judged" if fail_on == "none" else "failed" if why else "passed"
        verdict += f" ({why})" if why and not self.changes else ""
        counts = [f"{len(self.worse)} worse", f"{len(self.better)} better"]
        counts += [f"{len(self.tolerated)} worse within the margin"] if self.tolerated else []
        counts += [f"{len(self.undecided)} undecided"] if self.undecided else []
        for name, listed in (("new", self.new), ("gone", self.gone), ("not comparable", self.incomparable)):
            counts += [f"{len(listed)} {name}"] if listed else []
        compared = len(self.changes)
        unchanged = sum(change.unchanged for change in self.changes)
        same = f", {unchanged} of them unchanged" if unchanged else ""
        return f"{verdict}: {', '.join(counts)}; {compared} {'value' if compared == 1 else 'values'} compared{same}"

    def legend(self) -> str:
        """Say how the numbers are to be read."""
        margin = " Within the margin: the interval excludes a loss as large as the margin." if self.margins else ""
        return (
            "Differences are after minus before, paired over samples, with 95 % intervals; p is corrected for all "
            f"tests of this comparison (Holm); significant at {number(LEVEL, 2)}.{margin}"
        )

    def text(self, fail_on: str = "worse") -> str:
        """Return the comparison as plain text, two lines for each changed value, at most `SHOWN` of a kind."""
        lines = [f"{self.before_name} -> {self.after_name}", self.headline(fail_on)]
        for title, changes in self.changed_sections().items():
            lines += ["", f"{title}:"]
            for change in changes[:SHOWN]:
                lines += [f"  {row_words(change.place)}", f"    {column_words(change)}: {change_words(change)}"]
            lines += _rest(len(changes))
        for title, listed in self.listed_sections().items():
            lines += ["", f"{title}:", *(f"  {line}" for line in listed[:SHOWN]), *_rest(len(listed))]
        lines += ["", self.legend()] if self.changes else []
        return displayable_lines("\n".join(map(displayable, lines)))

    def _with(self, wanted: Callable[[Change], bool]) -> tuple[Change, ...]:
        chosen = [change for change in self.changes if wanted(change)]
        return tuple(sorted(chosen, key=lambda change: (change.difference.p_holm, change.difference.p, change.place)))

    def __str__(self) -> str:
        return self.text()


def _rest(count: int) -> list[str]:
    return [f"  … and {count - SHOWN} more: --format json lists all"] if count > SHOWN else []
