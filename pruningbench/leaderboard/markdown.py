"""Boards as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import groupby

from pruningbench.base.text import displayable
from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.labels import compact
from pruningbench.leaderboard.legend import (
    CHANCE,
    CORRECTED,
    DEGENERATE,
    UNDECIDED_MARK,
    chance_signs,
    failed_sentence,
    ties_signs,
)
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.leaderboard.provenance import SIGN
from pruningbench.leaderboard.ranking import RANK
from pruningbench.leaderboard.references import compared_with
from pruningbench.leaderboard.rows import Board, Column, Row
from pruningbench.leaderboard.sweetspots import sweet_spot_table, sweet_spots

FEW = 6
"""Largest number of metrics for which a table with intervals is still readable."""
_LINKED = re.compile(r"\S*(?:://|www\.|mailto:|xmpp:|@)\S*", re.IGNORECASE)
"""Words that renderers turn into links or mentions of people, even if they are escaped."""
_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
"""Markdown markup: code, emphasis, links and images, cells, strikes and formulas; "_" only at the edge of a word."""


def table(board: Board) -> str:
    """Return a heading, a pipe table for each model with the best values in bold, and a caption.

    Intervals are in small type below the values if the board has at most `FEW` columns.
    """
    parts = [f"**{_escaped(board.title)}**"]
    if not board.rows:
        parts.append("No results.")
    pruners = compact((row.pruner for row in board.rows), 80)
    decimals = {
        column.key: decimals_for(row.cells[column.key].value for row in board.rows if column.key in row.cells)
        for column in board.columns
    }
    ranked = any(row.rank is not None or row.collapsed for row in board.rows)
    degenerate = any(row.degenerate for row in board.rows)
    for model, group in groupby(board.rows, key=lambda row: row.model):
        parts.append(f"**{_escaped(model)}**")
        extra = list(board.rows[0].extra)
        lines = _header(board.columns, extra, ranked, degenerate)
        for row in group:
            cells = [
                percent(row.sparsity),
                _escaped(pruners[row.pruner] + UNDECIDED_MARK * row.undecided + SIGN * row.marked),
                _escaped(row.recipe),
                *(_escaped(str("–" if row.extra[name] is None else row.extra[name])) for name in extra),
            ]
            cells += [_rank(row)] if ranked else []
            cells += [str(sum(row.degenerate.values()) or "")] if degenerate else []
            cells += _cells(row, board.columns, decimals)
            lines.append(_line(cells))
        parts.append("\n".join(lines))
    parts.append(_escaped(caption(board, ranked)))
    if board.statements:
        parts.append("\n".join(f"* {_escaped(statement)}" for statement in board.statements))
    return "\n\n".join([*parts, *_sweet_spots(board)])


def _sweet_spots(board: Board) -> list[str]:
    """Return a heading and a table of the sweet spots; nothing if there are none."""
    header, *rows = (list(map(_escaped, row)) for row in sweet_spot_table(sweet_spots(board)))
    if not rows:
        return []
    return ["**Sweet spots**", "\n".join([_line(header), _line([":--"] * len(header)), *map(_line, rows)])]


def _header(columns: Sequence[Column], extra: Sequence[str], ranked: bool, degenerate: bool) -> list[str]:
    names = ["sparsity", "pruner", "recipe", *extra, *(["rank"] if ranked else [])]
    names += ["degenerate"] if degenerate else []
    names += [f"{column.header} {column.arrow}".strip() for column in columns]
    left = {"pruner", "recipe"}
    return [_line([*map(_escaped, names)]), _line([":--" if name in left else "--:" for name in names])]


def _rank(row: Row) -> str:
    if row.collapsed:
        return f"{CHANCE} collapsed"
    return "" if row.rank is None else f"{row.rank:.2f}"


def _cells(row: Row, columns: Sequence[Column], decimals: dict[tuple[str, str, str], int | None]) -> list[str]:
    cells = []
    for column in columns:
        entry = row.cells.get(column.key)
        if entry is None:
            cells.append("–")
            continue
        value = number(entry.value, decimals[column.key])
        cell = f"**{value}**" if entry.best else value
        cell += CHANCE if column.key in row.at_chance else ""
        change = row.differences.get(column.key)
        cell += {"better": " ▲", "worse": " ▼", "": ""}[row.verdicts.get(column.key, "")]
        if len(columns) <= FEW and math.isfinite(entry.half_width):
            low, high = (number(limit, decimals[column.key]) for limit in (entry.low, entry.high))
            cell += f"<br><sub>{low} … {high}</sub>"
            if change is not None and math.isfinite(change.half_width):
                delta, low, high = (number(v, decimals[column.key]) for v in (change.value, change.low, change.high))
                cell += f"<br><sub>Δ {delta} [{low}, {high}]</sub>"
        cells.append(cell)
    return cells


def caption(board: Board, ranked: bool, *, intervals: str = "Small: 95 % intervals.", differences: bool = True) -> str:
    """Return what the signs of a table mean and what its reader should know, as plain text.

    Args:
        board: the board.
        ranked: whether the table has a column of ranks.
        intervals: the sentence about intervals, which a table with few metrics shows.
        differences: whether the table shows differences.
    """
    sentences = []
    if any(column.arrow for column in board.columns):
        sentences.append("↑ higher is better, ↓ lower is better; bold: best of the same model and sparsity.")
    if ranked:
        sentences.append(f"Rank: {RANK}.")
    sentences += [f"{sign}." for sign in (*chance_signs(board), *ties_signs(board))]
    if any(row.degenerate for row in board.rows):
        sentences.append(f"{DEGENERATE.capitalize()}.")
    seeds = {len(row.seeds) for row in board.rows}
    if seeds and max(seeds) > 1:
        sentences.append(f"Means over {max(seeds)} seeds.")
    if board.rows and len(board.columns) <= FEW:
        sentences.append(intervals)
    if any(row.differences for row in board.rows):
        compared = compared_with(row.reference for row in board.rows if row.differences)
        sentences.append(f"▲ better, ▼ worse than {compared}: {CORRECTED}.")
        sentences += ["Δ [95 %]: the paired difference."] if differences else []
    sentences += board.notes
    if board.failed:
        sentences.append(failed_sentence(board))
    return " ".join(sentences)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return text that every renderer shows literally: no label becomes a link, an image, HTML or the end of a cell."""
    line = displayable(" ".join(text.split()))
    parts, start = [], 0
    for word in _LINKED.finditer(line):
        parts += [_literal(line[start : word.start()]), _code(word[0])]
        start = word.end()
    return "".join([*parts, _literal(line[start:])])


def _literal(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))


def _code(word: str) -> str:
    """Return a word as a code span whose fence is longer than any run of backticks in the word."""
    fence = "`" * (1 + max(map(len, re.findall("`+", word)), default=0))
    room = " " if word[0] == "`" or word[-1] == "`" else ""
    return f"{fence}{room}{word}{room}{fence}".replace("|", "\\|")


def escaped(text: str) -> str:
    """Return text that every Markdown renderer shows literally, on one line: see `_escaped`."""
    return _escaped(text)
