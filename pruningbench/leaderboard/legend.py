"""What the signs of a table mean, and what its reader should know."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from pruningbench.base.text import displayable
from pruningbench.contract.pruner import UNDECIDED
from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.labels import elide
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.leaderboard.ranking import RANK
from pruningbench.leaderboard.references import compared_with
from pruningbench.leaderboard.rows import Board, Column

UNDECIDED_MARK = " ≈"
"""Marks rows whose pruning was not decided by scores."""
CHANCE = "†"
"""Marks values that are not significantly above chance."""
CORRECTED = "paired test, p <= .05 by Holm's method over all marks of a model"
DEGENERATE = (
    "degenerate: samples whose output says nothing about them (one class or one box for nearly all, nothing found, "
    "a constant map)"
)
LONGEST = 80
"""Most characters of a name in a legend."""
MOST_NAMED, MOST_SPELT = 12, 200
"""Most columns that a legend names: those that are not shown, and those that are."""


def legend(board: Board, shown: Sequence[Column], width: int, *, intervals: bool, degenerate: bool) -> list[str]:
    """Return lines that explain the signs of a table, spell out its columns, and say how to see the others.

    Args:
        board: the board.
        shown: the columns that the table shows.
        width: largest number of characters of a line.
        intervals: whether the table shows intervals.
        degenerate: whether the table counts degenerate samples.
    """
    keys = {column.key for column in shown}
    signs = []
    if any(column.arrow for column in shown):
        signs.append("↑ higher is better, ↓ lower is better")
    if any(row.rank is not None for row in board.rows):
        signs.append(f"rank: {RANK}")
    entries = [entry for row in board.rows for key, entry in row.cells.items() if key in keys]
    if any(entry.best for entry in entries):
        signs.append("* best of these rows")
    if intervals:
        signs.append("±: half the 95 % interval")
    signs += [*chance_signs(board), *ties_signs(board)]
    with_degenerate = sum(bool(row.degenerate) for row in board.rows)
    if with_degenerate:
        rows = "1 row" if with_degenerate == 1 else f"{with_degenerate} rows"
        counted = f"degenerate outputs in {rows}, which a wider table counts"
        signs.append(DEGENERATE if degenerate else counted)
    if any(not keys.isdisjoint(row.verdicts) for row in board.rows):
        signs.append(
            f"▲ ▼ better, worse than {compared_with(r.reference for r in board.rows if r.differences)}: {CORRECTED}"
        )
    if any(math.isnan(entry.value) for entry in entries):
        signs.append("nan: undefined on all samples")
    if len(entries) < len(board.rows) * len(keys):
        signs.append("-: not measured")
    signs += _seeds(board)
    lines = [f"{'; '.join(signs)}."] if signs else []
    lines.append("Columns: " + _spelt_out(shown))
    lines += _left_out(board, shown)
    lines += board.notes
    if board.failed:
        lines.append(failed_sentence(board))
    lines += board.statements
    displayed = map(displayable, lines)
    return [wrapped for line in displayed for wrapped in textwrap.wrap(line, width, break_on_hyphens=False)]


def _seeds(board: Board) -> list[str]:
    seeds = {len(row.seeds) for row in board.rows}
    if max(seeds) < 2:
        return []
    return [f"values are means over {f'{min(seeds)} to ' if len(seeds) > 1 else ''}{max(seeds)} seeds"]


def _left_out(board: Board, shown: Sequence[Column]) -> list[str]:
    """Return what to do to see more columns, in one line, and the names of columns that are not shown."""
    keys = {column.key for column in shown}
    others = [column for column in board.columns if column.key not in keys]
    if not others:
        return []
    named = ", ".join(elide(column.header, LONGEST // 2) for column in others[:MOST_NAMED])
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return [
        f"{len(shown)} of {len(board.columns)} columns fit. More: --columns all or NAMES. Fewer rows: --where.",
        f"Not shown: {named}{more}.",
    ]


def chance_signs(board: Board) -> list[str]:
    """Explain the mark for values at chance, with the chance level of each column that has it."""
    columns = [c for c in board.columns if any(c.key in row.at_chance for row in board.rows)]
    if not columns:
        return []
    levels = ", ".join(f"{' '.join(filter(None, c.key))} {number(c.chance, decimals_for([c.chance]))}" for c in columns)
    signs = [f"{CHANCE} not significantly above chance ({levels}), last in its task"]
    if any(row.collapsed for row in board.rows):
        signs.append(f"{CHANCE} in place of the rank: collapsed, its main metric is at chance; not ranked")
    return signs


def ties_signs(board: Board) -> list[str]:
    """Explain the mark of undecided scores."""
    shares = [row.ties for row in board.rows if row.undecided]
    if not shares:
        return []
    most = percent(float(f"{max(shares):.2g}"))
    return [f"≈ undecided scores: ties made more than {percent(UNDECIDED)} of the pruning decision, up to {most}"]


def _spelt_out(columns: Sequence[Column]) -> str:
    """Return ``task: metric, metric; task (variant): metric``, with the unit at the end if all columns share it."""
    units = {column.unit for column in columns}
    parts = []
    for key, group in groupby(columns[:MOST_SPELT], key=lambda column: column.key[:2]):
        listed = [(elide(c.metric, LONGEST), elide(c.unit, LONGEST)) for c in group]
        metrics = ", ".join(f"{metric} [{unit}]" if unit and len(units) > 1 else metric for metric, unit in listed)
        task, variant = (elide(name, LONGEST) for name in key)
        parts.append(f"{task} ({variant}): {metrics}" if variant else f"{task}: {metrics}")
    if len(columns) > MOST_SPELT:
        parts.append(f"and {len(columns) - MOST_SPELT} more")
    same = f" [all: {elide(columns[0].unit, LONGEST)}]" if len(units) == 1 and columns[0].unit else ""
    return "; ".join(parts) + same + "."


def failed_sentence(board: Board) -> str:
    """Return a sentence that says how many tasks gave no values, and why."""
    counts = ", ".join(f"{count} {status}" for status, count in Counter(f.status for f in board.failed).items())
    return f"Task runs without values: {counts or 'none'}."
