"""Chooses and sorts the rows and columns of boards for showing them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pruningbench.base.reading import one_line
from pruningbench.errors import UsageError, did_you_mean
from pruningbench.leaderboard.conditions import Condition, Value, names_in, parse_condition
from pruningbench.leaderboard.rows import Board, Column, Failure, Row

Getter = Callable[[Row], Value]

FIELDS: dict[str, Getter] = {
    "model": lambda row: row.model,
    "pruner": lambda row: row.pruner,
    "recipe": lambda row: row.recipe,
    "sparsity": lambda row: row.sparsity,
    "sparsity_achieved": lambda row: row.sparsity_achieved,
    "rank": lambda row: row.rank,
    "seeds": lambda row: float(len(row.seeds)),
    "ties": lambda row: row.ties,
    "degenerate": lambda row: float(sum(row.degenerate.values())),
    "collapsed": lambda row: row.collapsed,
    "dense": lambda row: row.dense,
    "marked": lambda row: row.marked,
    "trust": lambda row: row.trust,
    "status": lambda _row: "ok",
}
"""What a row can be selected and sorted by, besides its metrics and further columns."""
_OF_FAILURES = ("model", "pruner", "recipe", "sparsity", "status")


@dataclass(frozen=True)
class Sort:
    """What the rows of a model are sorted by.

    Attributes:
        name: a field of `FIELDS`, a further column, or a metric.
        descending: None for the usual direction: metrics with the best value first, everything else ascending.
    """

    name: str
    descending: bool | None = None


def parse_sort(text: str) -> Sort:
    """Return what ``COLUMN``, ``COLUMN:asc`` or ``COLUMN:desc`` states.

    Raises:
        UsageError: without a column.
    """
    name, colon, order = text.strip().rpartition(":")
    if not colon or order.lower() not in ("asc", "desc"):
        name, order = text.strip(), ""
    if not name:
        raise UsageError("--sort needs the name of a column, such as --sort sparsity or --sort accuracy:desc")
    return Sort(name, order.lower() == "desc" if order else None)


def select(
    boards: Sequence[Board], *, where: str = "", columns: Sequence[str] = (), sort: str = "", others: Sequence[str] = ()
) -> list[Board]:
    """Return boards with some of their rows and columns.

    Ranks, marks of best values, differences and their corrections stay those of the whole board, and a note says so.

    Args:
        boards: what `pruningbench.leaderboard.build` returned.
        where: a condition on rows, see `pruningbench.leaderboard.conditions`; "" for all rows. It may name `FIELDS`,
            further columns of the rows, and metrics.
        columns: names of metrics, by header, metric, task, variant, dimension, or ``task variant metric``; none for all
            columns. They are shown in this order.
        sort: ``COLUMN``, ``COLUMN:asc`` or ``COLUMN:desc``: sorts the rows of each model; "" for the usual order. Rows
            without a value come last.
        others: further names that an error about an unknown one may suggest.

    Raises:
        UsageError: for a condition that is none, a name that no board has, or one that stands for several metrics.
    """
    condition = parse_condition(where) if where.strip() else None
    order = parse_sort(sort) if sort.strip() else None
    names = [*(names_in(condition) if condition else ()), *([order.name] if order else ())]
    getters = {name: _getters(name, boards) for name in names}
    chosen = _chosen(boards, columns, others) if columns else [board.columns for board in boards]
    shown = []
    for i, (board, of_board) in enumerate(zip(boards, chosen, strict=True)):
        own = {name: of_name[i] for name, of_name in getters.items()}
        rows_chosen = board if condition is None else _filtered(board, condition, own, where)
        rows = rows_chosen.rows if order is None else _sorted(rows_chosen, order, own[order.name])
        shown.append(replace(rows_chosen, rows=rows, columns=of_board))
    return shown


def _filtered(board: Board, condition: Condition, getters: dict[str, Getter], where: str) -> Board:
    rows = tuple(row for row in board.rows if condition(lambda name, row=row: getters[name](row)))  # type: ignore[misc]
    failed = tuple(
        failure
        for failure in board.failed
        if condition(lambda name, f=failure: _of_failure(f, name))  # type: ignore[misc]
    )
    counts = f"{len(rows)} of {len(board.rows)} rows"
    if board.failed:
        counts += f" and {len(failed)} of {len(board.failed)} task runs without values"
    note = (
        f"Shown: {counts}, where {one_line(where)}; ranks, best values and corrections for many tests are those of "
        "the whole table."
    )
    return replace(board, rows=rows, failed=failed, notes=(note, *board.notes))


def _of_failure(failure: Failure, name: str) -> Value:
    value: Value = getattr(failure, name) if name in _OF_FAILURES else None
    return value


def _sorted(board: Board, order: Sort, getter: Getter) -> tuple[Row, ...]:
    column = next((c for c in board.columns if order.name in _exact(c)), None)
    usual = column is not None and column.higher_is_better is True and order.name not in FIELDS
    descending = usual if order.descending is None else order.descending
    models: dict[str, list[Row]] = {}
    for row in board.rows:
        models.setdefault(row.model, []).append(row)
    rows: list[Row] = []
    for of_model in models.values():
        known = [(value, row) for row in of_model if (value := getter(row)) is not None and not _isnan(value)]
        texts = any(isinstance(value, str) for value, _ in known)
        ordered = sorted(
            known, key=lambda pair: str(pair[0]) if texts else pair[0], reverse=descending
        )  # fmt: skip
        there = {id(row) for _, row in known}
        rows += [*(row for _, row in ordered), *(row for row in of_model if id(row) not in there)]
    return tuple(rows)


def _isnan(value: Value) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _getters(name: str, boards: Sequence[Board]) -> list[Getter]:
    """Return, for each board, what a name stands for.

    Raises:
        UsageError: if no board has the name, or it stands for several metrics.
    """
    if name in FIELDS:
        return [FIELDS[name]] * len(boards)
    if any(name in row.extra for board in boards for row in board.rows[:1]):
        return [lambda row: _extra(row, name)] * len(boards)
    getters: list[Getter] = []
    exists = False
    for board in boards:
        columns = [c for c in board.columns if name == c.header] or [c for c in board.columns if name in _exact(c)]
        if len(columns) > 1:
            headers = ", ".join(one_line(c.header, 40) for c in columns[:5])
            raise UsageError(f"{one_line(name)!r} stands for {len(columns)} columns: write one of {headers}")
        exists = exists or bool(columns)
        getters.append(_metric(columns[0]) if columns else lambda _row: None)
    if not exists:
        extra = (key for board in boards for row in board.rows[:1] for key in row.extra)
        raise _unknown(name, [*FIELDS, *extra, *(c.header for board in boards for c in board.columns)])
    return getters


def _metric(column: Column) -> Getter:
    return lambda row: row.cells[column.key].value if column.key in row.cells else None


def _extra(row: Row, name: str) -> Value:
    value = row.extra.get(name)
    return float(value) if isinstance(value, int) else value


def _exact(column: Column) -> set[str]:
    """Return the names that stand for a single metric of a column."""
    task, variant, metric = column.key
    return {column.header, metric, f"{variant} {metric}", f"{task} {metric}", " ".join(filter(None, column.key))}


def _groups(column: Column) -> set[str]:
    """Return the names that stand for a column and others with it."""
    task, variant, _ = column.key
    return {task, variant, f"{task} {variant}", column.dimension} - {""}


def _chosen(boards: Sequence[Board], names: Sequence[str], others: Sequence[str]) -> list[tuple[Column, ...]]:
    """Return the columns of each board that the names stand for, in the order of the names."""
    chosen: list[dict[tuple[str, str, str], Column]] = [{} for _ in boards]
    for name in names:
        matched = False
        for board, own in zip(boards, chosen, strict=True):
            columns = [c for c in board.columns if name in _exact(c) | _groups(c)]
            matched = matched or bool(columns)
            own.update({column.key: column for column in columns if column.key not in own})
        if not matched and boards:
            known = [s for board in boards for c in board.columns for s in (c.header, *sorted(_groups(c)))]
            raise _unknown(name, [*others, *known])
    return [tuple(own.values()) for own in chosen]


def _unknown(name: str, known: Iterable[str]) -> UsageError:
    options = list(dict.fromkeys(option for option in known if len(option) <= 80))[:500]
    few = ", ".join(one_line(option, 40) for option in options[:12])
    more = f" and {len(options) - 12} more" if len(options) > 12 else ""
    return UsageError(f"no column is called {one_line(name)!r}{did_you_mean(name, options)} (there are {few}{more})")
