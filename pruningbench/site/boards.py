"""Boards as columns of numbers: the data of the table, the curves and the answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pruningbench.base.text import displayable
from pruningbench.contract.findings import FRACTION
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.labels import compact
from pruningbench.leaderboard.rows import Board, Column, Row
from pruningbench.site.data import Names, data_file, plain
from pruningbench.site.files import File
from pruningbench.site.links import PageKind, page_of
from pruningbench.site.rowruns import RowRuns, runs_of_rows
from pruningbench.site.source import Source

KINDS: tuple[PageKind, ...] = ("model", "pruner", "recipe", "task", "metric", "run")
"""Kinds of names on a board."""
BEST, AT_CHANCE, BETTER, WORSE = 1, 2, 4, 8
"""Bits of the flags of a value."""
COLLAPSED, UNDECIDED, MARKED = 1, 2, 4
"""Bits of the flags of a row."""


def board_name(place: int) -> str:
    """Return the name of the data of a board, given its place."""
    return f"board-{place}"


def board_files(source: Source) -> Iterator[File]:
    """Yield the data of each board, and ``boards``: the list of boards."""
    found = runs_of_rows(source.results)
    listed = [{"data": board_name(i), "title": displayable(board.title)} for i, board in enumerate(source.boards)]
    yield data_file("boards", listed)
    for i, board in enumerate(source.boards):
        yield data_file(board_name(i), board_data(board, found, set(source.registry.names("suite"))))


def board_data(board: Board, found: dict[Any, RowRuns], suites: set[str]) -> dict[str, Any]:
    """Return a board as JSON values; texts are safe to show, and each number stands in a list over all its owners.

    ::

        {"title", "suites", "notes", "statements",
         "names": {kind: {"label": [str], "short": [str], "page": [str]}},   kind: model pruner recipe task metric run
         "suite": [str],                    the suite as `pruningbench run` takes it, "" if it is not a shipped one
         "columns": {"task", "metric": [place in names], "variant", "header", "unit", "dimension": [str],
                     "direction": [1 | -1 | 0], "ceiling", "chance": [number | null]},
         "rows": {"model", "pruner", "recipe", "reference": [place | -1], "sparsity", "achieved", "rank", "ties",
                  "seeds", "flags", "suite": [number | null], "runs": [[place]], "trust": [str]},
         "values": {"row", "column": [place], "value", "low", "high", "n", "seeds", "flags", "degenerate",
                    "change", "change_low", "change_high", "p": [number | null]}}

    ``change`` is the paired difference to the dense reference, and ``p`` its p-value after Holm's correction.
    """
    names: dict[PageKind, Names] = {kind: Names() for kind in KINDS}
    commands = Names()
    for row in board.rows:  # in the order of the board, so that lists read as the tables do
        names["model"].place(row.model)
    columns = _columns(board.columns, names)
    rows = _rows(board.rows, names, commands, found)
    return {
        "title": displayable(board.title),
        "suites": [displayable(suite) for suite in board.suites],
        "notes": [displayable(note) for note in board.notes],
        "statements": [displayable(statement) for statement in board.statements],
        "names": {kind: names_data(kind, listed.texts) for kind, listed in names.items()},
        "suite": [displayable(suite) if suite in suites else "" for suite in commands.texts],
        "columns": columns,
        "rows": rows,
        "values": _values(board),
    }


def names_data(kind: PageKind, texts: Iterable[str]) -> dict[str, list[str]]:
    """Return the labels of a kind, their short forms, and the addresses of their pages."""
    listed = list(texts)
    short = compact(listed)
    return {
        "label": [displayable(text) for text in listed],
        "short": [short[text] for text in listed],
        "page": [page_of(kind, text) for text in listed],
    }


def dimension_of(column: Column) -> str:
    """Return the ability that a column measures; the task where the board does not know it."""
    return column.dimension or column.task


def _columns(columns: Iterable[Column], names: dict[PageKind, Names]) -> dict[str, list[Any]]:
    listed = list(columns)
    return {
        "task": [names["task"].place(c.task) for c in listed],
        "metric": [names["metric"].place(c.metric) for c in listed],
        "variant": [displayable(c.variant) for c in listed],
        "header": [displayable(c.header) for c in listed],
        "unit": [displayable(c.unit) for c in listed],
        "dimension": [displayable(dimension_of(c)) for c in listed],
        "direction": [0 if c.higher_is_better is None else 1 if c.higher_is_better else -1 for c in listed],
        "ceiling": [plain(c.ceiling) for c in listed],
        "chance": [plain(c.chance) for c in listed],
    }


def _rows(
    rows: Iterable[Row], names: dict[PageKind, Names], commands: Names, found: dict[Any, RowRuns]
) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {}
    for row in rows:
        origin = found.get((row.model, row.pruner, row.recipe, row.sparsity), RowRuns("", ()))
        values = {
            "model": names["model"].place(row.model),
            "pruner": names["pruner"].place(row.pruner),
            "recipe": names["recipe"].place(row.recipe),
            "reference": names["recipe"].place(row.reference) if row.reference else -1,
            "sparsity": row.sparsity,
            "achieved": plain(row.sparsity_achieved),
            "rank": plain(row.rank, 4),
            "ties": plain(row.ties, 3),
            "seeds": len(row.seeds),
            "flags": COLLAPSED * row.collapsed | UNDECIDED * row.undecided | MARKED * row.marked,
            "suite": commands.place(origin.suite),
            "runs": [names["run"].place(run) for run in origin.runs],
            "trust": displayable(row.trust),
        }
        for key, value in values.items():
            made.setdefault(key, []).append(value)
    return made


def _values(board: Board) -> dict[str, list[Any]]:
    keys = ("row", "column", "value", "low", "high", "n", "seeds", "flags", "degenerate")
    made: dict[str, list[Any]] = {key: [] for key in (*keys, "change", "change_low", "change_high", "p")}
    for i, row in enumerate(board.rows):
        for j, column in enumerate(board.columns):
            entry = row.cells.get(column.key)
            if entry is None:
                continue
            change, verdict = row.differences.get(column.key), row.verdicts.get(column.key)
            values = (
                i, j, plain(entry.value), *map(plain, _limits(entry, column)), entry.n, entry.seeds,
                BEST * entry.best | AT_CHANCE * (column.key in row.at_chance)
                | BETTER * (verdict == "better") | WORSE * (verdict == "worse"),
                row.degenerate.get(column.key[:2], 0),
                *((plain(change.value), plain(change.low), plain(change.high), plain(change.p_holm, 3))
                  if change else (None,) * 4),
            )  # fmt: skip
            for key, value in zip(made, values, strict=True):
                made[key].append(value)
    return made


def _limits(entry: Entry, column: Column) -> tuple[float, float]:
    """Return the limits of a value's interval; shares have none outside [0, 1], though an interval over seeds may."""
    if column.unit != FRACTION or not 0 <= entry.value <= 1:
        return entry.low, entry.high
    low, high = entry.low, entry.high
    return 0.0 if low < 0 else low, 1.0 if high > 1 else high
