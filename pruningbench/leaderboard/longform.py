"""Boards in long form: one line per measured value, for CSV and Parquet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from pruningbench.base.text import displayable_lines
from pruningbench.errors import UsageError
from pruningbench.leaderboard.rows import Board, Column, Row

TEXT, REAL, WHOLE, TRUTH = "text", "real", "whole", "truth"
LONG_FORM = {
    "board": TEXT, "model": TEXT, "pruner": TEXT, "recipe": TEXT, "sparsity": REAL, "sparsity_achieved": REAL,
    "rank": REAL, "task": TEXT, "variant": TEXT, "metric": TEXT, "value": REAL, "ci_low": REAL, "ci_high": REAL,
    "n": WHOLE, "seeds": WHOLE, "unit": TEXT, "higher_is_better": TRUTH, "data_fingerprint": TEXT, "difference": REAL,
    "difference_low": REAL, "difference_high": REAL, "p": REAL, "p_holm": REAL, "reference": TEXT, "verdict": TEXT,
    "chance": REAL, "collapsed": TRUTH, "degenerate": WHOLE, "ties": REAL, "marked": TRUTH,
    "trust": TEXT,
}  # fmt: skip
"""The columns and the types of their values."""
Cell = str | float | bool | None
_FORMULA = tuple("=+-@＝＋－＠")
"""Characters that begin a formula in a spreadsheet."""


def further_columns(boards: Sequence[Board]) -> list[str]:
    """Return the names of requested columns, which follow those of `LONG_FORM`."""
    return list(dict.fromkeys(name for board in boards for row in board.rows[:1] for name in row.extra))


def long_form(boards: Sequence[Board]) -> Iterator[list[Cell]]:
    """Yield the values of `LONG_FORM` and of `further_columns` for each measured value; None for an empty cell."""
    further = further_columns(boards)
    for board in boards:
        for row in board.rows:
            for column in board.columns:
                if column.key in row.cells:
                    yield [*_line(board, row, column), *(row.extra.get(name) for name in further)]


def _line(board: Board, row: Row, column: Column) -> list[Cell]:
    entry, change = row.cells[column.key], row.differences.get(column.key)
    return [
        board.title, row.model, row.pruner, row.recipe, row.sparsity, row.sparsity_achieved, row.rank, *column.key,
        entry.value, entry.low, entry.high, entry.n, entry.seeds, column.unit, column.higher_is_better,
        column.data_fingerprint,
        *((change.value, change.low, change.high, change.p, change.p_holm) if change else [None] * 5),
        row.reference if change else "", row.verdicts.get(column.key, ""), _known(column.chance), row.collapsed,
        row.degenerate.get(column.key[:2], 0), _known(row.ties), row.marked,
        row.trust,
    ]  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def csv_text(boards: Sequence[Board]) -> str:
    """Return the long form as CSV, without a newline at the end.

    Numbers keep full precision. A text that a spreadsheet would take for a formula is prefixed with an apostrophe;
    numbers never are.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*LONG_FORM, *map(_cell, further_columns(boards))])
    size = len(LONG_FORM)
    for line in long_form(boards):
        own, further = line[:size], line[size:]
        writer.writerow([*map(_written, own), *("" if value is None else _cell(str(value)) for value in further)])
    return buffer.getvalue().removesuffix("\n")


def _written(value: Cell) -> str:
    if isinstance(value, str):
        return _cell(value)
    return "" if value is None else repr(value)


def _cell(text: str) -> str:
    """Return text that no spreadsheet runs as a formula (OWASP, CSV Injection), even after blanks or in full width."""
    shown = displayable_lines(text)
    return f"'{shown}" if shown.lstrip()[:1] in _FORMULA or shown[:1] in ("\t", "\n") else shown


def parquet_bytes(boards: Sequence[Board]) -> bytes:
    """Return the long form as a Parquet file: texts, doubles, 64-bit integers and booleans; an empty cell is null.

    Further columns are doubles if all their values are numbers, else texts. Texts are those of the results, unescaped.

    Raises:
        UsageError: if pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageError("--format parquet needs pyarrow: pip install 'pruningbench[hub]'") from None
    types = {TEXT: pa.string(), REAL: pa.float64(), WHOLE: pa.int64(), TRUTH: pa.bool_()}
    lines = list(long_form(boards))
    columns = [*(list(column) for column in zip(*lines, strict=True))] or [[] for _ in LONG_FORM]
    fields = [(name, types[kind]) for name, kind in LONG_FORM.items()]
    for name, values in zip(further_columns(boards), columns[len(LONG_FORM) :], strict=False):
        numbers = all(value is None or isinstance(value, (int, float)) for value in values)
        fields.append((name, types[REAL if numbers else TEXT]))
        if not numbers:
            values[:] = [None if value is None else str(value) for value in values]
    columns += [[] for _ in fields[len(columns) :]]
    table = pa.table(
        [pa.array(values, type=kind) for values, (_, kind) in zip(columns, fields, strict=True)],
        schema=pa.schema(fields),
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
