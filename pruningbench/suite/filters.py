"""Filters ``KIND=LABEL`` that select a part of a plan by the labels that `plan` and tables show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pruningbench.errors import UsageError, did_you_mean

KINDS = ("model", "pruner", "recipe", "sparsity", "seed", "cell", "task")


@dataclass(frozen=True)
class Filter:
    """A filter as the user gave it: ``OPTION KIND=LABEL``, in which ``*`` stands for any text."""

    option: str
    kind: str
    label: str

    def matches(self, label: str) -> bool:
        """Whether the filter matches a label: exactly, unless the filter contains a ``*``."""
        parts = [re.escape(part) for part in self.label.split("*")]
        return re.fullmatch(".*".join(parts), label, re.DOTALL) is not None

    def check(self, labels: Iterable[str]) -> None:
        """Make sure that the filter matches at least one label.

        Raises:
            UsageError: if it matches none; the message suggests labels.
        """
        existing = sorted(set(labels))
        if any(map(self.matches, existing)):
            return
        family = [label for label in existing if label.startswith((f"{self.label}(", f"{self.label}-"))]
        if family:
            hint = f"; labels are exact: write {' or '.join(map(repr, family[:3]))}, or '{self.label}*' for all of them"
        else:
            hint = did_you_mean(self.label, existing) or f"; there are: {', '.join(existing)}"
        raise UsageError(f"{self.option} {self.kind}={self.label}: the suite has no such {self.kind}{hint}")


def parse_filters(texts: Sequence[str], option: str) -> dict[str, list[Filter]]:
    """Return filters by kind.

    Args:
        texts: ``KIND=LABEL``; kinds may be in the plural.
        option: the option that they were given with, for messages.

    Raises:
        UsageError: for another form, an unknown kind, or a sparsity that is not a number.
    """
    filters: dict[str, list[Filter]] = {}
    for text in texts:
        kind, equals, label = text.partition("=")
        kind = {"sparsities": "sparsity"}.get(kind.strip(), kind.strip().removesuffix("s"))
        if not equals or not label.strip():
            raise UsageError(f"{option} {text}: must be KIND=LABEL, for example pruner=magnitude")
        if kind not in KINDS:
            raise UsageError(f"{option} {text}: unknown kind{did_you_mean(kind, KINDS)} (kinds: {', '.join(KINDS)})")
        label = label.strip()
        if kind == "sparsity":
            try:
                label = f"{float(label):g}"
            except ValueError:
                raise UsageError(f"{option} {text}: a sparsity is a number in [0, 1)") from None
        filters.setdefault(kind, []).append(Filter(option, kind, label))
    return filters


def takes(filters: Mapping[str, Sequence[Filter]], labels: Mapping[str, str]) -> dict[str, bool]:
    """Return, for each filtered kind, whether any of its filters matches the label of that kind."""
    return {
        kind: any(f.matches(labels[kind]) for f in alternatives)
        for kind, alternatives in filters.items()
        if kind in labels
    }


def is_selected(
    labels: Mapping[str, str],
    wanted: Mapping[str, Sequence[Filter]],
    unwanted: Mapping[str, Sequence[Filter]],
    free: Sequence[str] = (),
) -> bool:
    """Whether filters select something.

    Args:
        labels: its labels, by kind.
        wanted: filters of what to run, by kind.
        unwanted: filters of what to leave out, by kind.
        free: kinds that it is exempt from, because pruned cells are compared with it.
    """
    taken = all(hit for kind, hit in takes(wanted, labels).items() if kind not in free)
    refused = any(hit for kind, hit in takes(unwanted, labels).items() if not (kind == "recipe" and kind in free))
    return taken and not refused
