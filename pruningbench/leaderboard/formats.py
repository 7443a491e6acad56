"""Boards as text in five formats, and as Parquet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pruningbench.base.text import displayable_json, displayable_lines
from pruningbench.errors import UsageError, did_you_mean
from pruningbench.leaderboard import latex, listing, markdown, text
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.findings import finding_values
from pruningbench.leaderboard.longform import csv_text
from pruningbench.leaderboard.rows import Board, Column, Row

FORMATS = ("table", "markdown", "csv", "json", "latex")
"""The formats that `render` can write."""


def render(
    boards: Sequence[Board], format: str = "table", *, width: int | None = None, all_columns: bool = False
) -> str:
    """Return boards as text, without a newline at the end.

    ``table``: plain text for a terminal, see `pruningbench.leaderboard.text`. ``markdown``: one table per
    model. ``latex``: the same for LaTeX, see `pruningbench.leaderboard.latex`. ``csv``: one line per measured value
    with the columns `longform.LONG_FORM`. ``json``: a list of boards, see `board_values`. The last two keep full
    precision. In ``csv``, text that a spreadsheet would take for a formula (it begins with ``= + - @`` or a tab) is
    prefixed with an apostrophe; numbers never are. `longform.parquet_bytes` writes the lines of ``csv`` as Parquet.

    Args:
        boards: what `build` returned.
        format: one of `FORMATS`.
        width: columns of the terminal, for ``table``; None for `listing.WIDTH`.
        all_columns: for ``table``: show columns that do not fit in further tables below, instead of leaving them out.

    Raises:
        UsageError: for another format.
    """
    if format == "json":
        return displayable_json([board_values(board) for board in boards], indent=1)
    if format == "csv":
        return csv_text(boards)
    if format not in FORMATS:
        hint = did_you_mean(format, FORMATS) or f"; formats are: {', '.join(FORMATS)}"
        raise UsageError(f"unknown format {format!r}{hint}")
    if not boards:
        return "No results."
    if format == "latex":
        return displayable_lines("\n\n".join(latex.table(board) for board in boards))
    if format == "markdown":
        return displayable_lines("\n\n".join(markdown.table(board) for board in boards))
    return displayable_lines("\n\n".join(text.table(board, width, all_columns=all_columns) for board in boards))


def render_failures(boards: Sequence[Board], *, width: int | None = None) -> str:
    """Return a plain list of the tasks without values, with the last line of their errors; "" if there are none."""
    return displayable_lines(listing.failures([failure for board in boards for failure in board.failed], width))


def board_values(board: Board) -> dict[str, Any]:
    """Return a board as JSON values; NaN becomes null, and infinity the text "inf" or "-inf".

    ::

        {"title": str, "suites": [str], "notes": [str], "statements": [str],
         "columns": [{"task", "variant", "metric", "header", "unit", "data_fingerprint": str,
                      "higher_is_better": bool | null, "range": [number, number], "ceiling": number | null,
                      "chance": number | null, "dimension": str, "main": bool}],
         "rows": [{"model", "pruner", "recipe", "reference": str, "sparsity", "sparsity_achieved": number,
                   "seeds": [int], "rank": number | null, "collapsed", "marked": bool, "ties": number | null,
                   "degenerate": [{"task", "variant": str, "count": int}], "extra": {name: number | text | null},
                   "trust": str,
                   "cells": [null (not measured) or
                             {"value", "ci_low", "ci_high": number, "n", "seeds": int, "best", "at_chance": bool,
                              "verdict": "better" | "worse" | null,
                              "difference": null (unknown) or
                                  {"value", "ci_low", "ci_high": number, "p", "p_holm": number | null}}]}],
         "failed": [{"run", "model", "pruner", "recipe": str, "sparsity": number, "seed": int,
                     "task", "part", "status", "error": str}],
         "sweet_spots", "pareto", "contests": see `pruningbench.leaderboard.findings.finding_values`}

    The cells of a row are in the order of the columns; `difference` is the difference to the dense model of the recipe
    `reference`, which is the model as loaded for ``none``.
    """
    return {
        "title": board.title,
        "suites": list(board.suites),
        "notes": list(board.notes),
        "statements": list(board.statements),
        "columns": [
            {
                **vars(column),
                "range": [*map(_plain, column.range)],
                "ceiling": _plain(column.ceiling),
                "chance": _plain(column.chance),
            }
            for column in board.columns
        ],
        "rows": [_row_values(row, board.columns) for row in board.rows],
        "failed": [vars(failure) for failure in board.failed],
        **finding_values(board),
    }


def _row_values(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    cells = []
    for column in columns:
        entry, change = row.cells.get(column.key), row.differences.get(column.key)
        cells.append(
            entry and {
                **_interval(entry), "n": entry.n, "seeds": entry.seeds, "best": entry.best,
                "at_chance": column.key in row.at_chance, "verdict": row.verdicts.get(column.key),
                "difference": change and {**_interval(change), "p": _plain(change.p), "p_holm": _plain(change.p_holm)},
            }
        )  # fmt: skip
    return {
        **{
            name: value
            for name, value in vars(row).items()
            if name not in ("differences", "verdicts", "at_chance", "by_seed")
        },
        "extra": dict(row.extra),
        "sparsity_achieved": _plain(row.sparsity_achieved),
        "ties": _plain(row.ties),
        "seeds": list(row.seeds),
        "degenerate": [
            {"task": task, "variant": variant, "count": count} for (task, variant), count in row.degenerate.items()
        ],
        "cells": cells,
    }


def _interval(entry: Entry) -> dict[str, float | str | None]:
    return {"value": _plain(entry.value), "ci_low": _plain(entry.low), "ci_high": _plain(entry.high)}


def _plain(value: float) -> float | str | None:
    """Return a number as a JSON value: null for NaN, and text for infinity."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else f"{value}"
