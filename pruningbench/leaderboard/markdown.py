"""Boards as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from pruningbench.leaderboard.board import Board, Column, Row
from pruningbench.leaderboard.labels import compact
from pruningbench.leaderboard.numbers import decimals_for, number, percent
from pruningbench.leaderboard.ranking import RANK
from pruningbench.leaderboard.text import failed_sentence

FEW = 6
"""Most metrics with which a table still reads well with the intervals in it."""


def table(board: Board) -> str:
    """Return a heading, a pipe table for each model with the best values bold, and a caption.

    Intervals stand in small type below the values when the board has at most `FEW` columns.
    """
    parts = [f"**{_escaped(board.title)}**"]
    if not board.rows:
        parts.append("No results.")
    pruners = compact((row.pruner for row in board.rows), 80)
    decimals = {
        column.key: decimals_for(row.cells[column.key].value for row in board.rows if column.key in row.cells)
        for column in board.columns
    }
    ranked = any(row.rank is not None for row in board.rows)
    for model, group in groupby(board.rows, key=lambda row: row.model):
        parts.append(f"**{_escaped(model)}**")
        lines = _header(board.columns, ranked)
        for row in group:
            cells = [percent(row.sparsity), _escaped(pruners[row.pruner]), _escaped(row.recipe)]
            cells += ([_rank(row)] if ranked else []) + _cells(row, board.columns, decimals)
            lines.append(_line(cells))
        parts.append("\n".join(lines))
    parts.append(_caption(board, ranked))
    if board.statements:
        parts.append("\n".join(f"* {_escaped(statement)}" for statement in board.statements))
    return "\n\n".join(parts)


def _header(columns: Sequence[Column], ranked: bool) -> list[str]:
    names = ["sparsity", "pruner", "recipe", *(["rank"] if ranked else [])]
    names += [f"{column.header} {column.arrow}".strip() for column in columns]
    left = {"pruner", "recipe"}
    return [_line([*map(_escaped, names)]), _line([":--" if name in left else "--:" for name in names])]


def _rank(row: Row) -> str:
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
        change = row.differences.get(column.key)
        cell += {"better": " ▲", "worse": " ▼", "": ""}[column.verdict(change)]
        if len(columns) <= FEW and math.isfinite(entry.half_width):
            low, high = (number(limit, decimals[column.key]) for limit in (entry.low, entry.high))
            cell += f"<br><sub>{low} … {high}</sub>"
            if change is not None and math.isfinite(change.half_width):
                delta, low, high = (number(v, decimals[column.key]) for v in (change.value, change.low, change.high))
                cell += f"<br><sub>Δ {delta} [{low}, {high}]</sub>"
        cells.append(cell)
    return cells


def _caption(board: Board, ranked: bool) -> str:
    sentences = []
    if any(column.arrow for column in board.columns):
        sentences.append("↑ higher is better, ↓ lower is better; bold: best of the same model and sparsity.")
    if ranked:
        sentences.append(f"Rank: {RANK}.")
    seeds = {len(row.seeds) for row in board.rows}
    if seeds and max(seeds) > 1:
        sentences.append(f"Means over {max(seeds)} seeds.")
    if board.rows and len(board.columns) <= FEW:
        sentences.append("Small: 95 % intervals.")
    if any(row.differences for row in board.rows):
        sentences.append(
            "▲ better, ▼ worse than the dense model: the 95 % interval of the paired difference (Δ) excludes zero."
        )
    sentences += board.notes
    if board.failed:
        sentences.append(failed_sentence(board))
    return _escaped(" ".join(sentences))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Keep labels from ending a cell or a line."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
