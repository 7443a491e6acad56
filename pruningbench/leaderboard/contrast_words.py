"""Words and numbers of a comparison of results, for text and Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.changes import Change, Place, Unmatched
from pruningbench.leaderboard.numbers import decimals_for, number


def row_words(place: Place) -> str:
    """Name the row of a board: model, sparsity, pruner and recipe."""
    return f"{place.model} · {percent(place.sparsity)} {place.pruner} · {place.recipe}"


def column_words(change: Change) -> str:
    """Name the column of a board, with the arrow of its better direction."""
    arrow = {True: " ↑", False: " ↓", None: ""}[change.higher_is_better]
    return metric_words(change.place) + arrow


def metric_words(place: Place) -> str:
    """Name the column of a board: task, variant and metric."""
    return " ".join(filter(None, (place.task, place.variant, place.metric)))


def numbers_of(change: Change) -> tuple[str, str, str]:
    """Return the value before, the value after, and the difference with its interval."""
    entry = change.difference
    decimals = decimals_for((change.before, change.after))
    small = decimals_for((entry.value, entry.low, entry.high)) if decimals is None else max(decimals, 3)
    low, high = number(entry.low, small), number(entry.high, small)
    before, after = number(change.before, decimals), number(change.after, decimals)
    return before, after, f"{number(entry.value, small)} [{low}, {high}]"


def change_words(change: Change) -> str:
    """Return the numbers of a change in one line."""
    before, after, difference = numbers_of(change)
    entry = change.difference
    seeds = f", {entry.seeds} seeds" if entry.seeds > 1 else ""
    return f"{before} -> {after}, difference {difference}, p {p_value(entry.p_holm)} (n {entry.n}{seeds})"


def p_value(p: float) -> str:
    """Format a p-value: three decimals, ``< .001`` below that, ``-`` if it is unknown."""
    if math.isnan(p):
        return "-"
    return "< .001" if p < 0.001 else number(p, 3)


def grouped_lines(unmatched: Sequence[Unmatched]) -> list[str]:
    """Return one line for each row of a board and reason, with the metrics that it concerns."""
    groups: dict[tuple[str, str, tuple[int, ...]], dict[str, None]] = {}
    for one in unmatched:
        groups.setdefault((row_words(one.place), one.reason, one.seeds), {})[metric_words(one.place)] = None
    lines = []
    for (row, reason, seeds), metrics in groups.items():
        names = list(metrics)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        of_seeds = f" (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})" if seeds != (0,) else ""
        lines.append(f"{row}{of_seeds}: {shown}" + (f": {reason}" if reason else ""))
    return lines
