"""Tables in text: rows of named columns, each with its line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from pruningbench.contract import DataError, one_line, read_text


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the names of the columns of a CSV file, and its rows with the line that each ends in.

    What lacks at the end of a row is empty; more values than columns are left out.

    Raises:
        DataError: naming file and line, for what is no UTF-8 or no CSV.
    """
    reader = csv.reader(StringIO(read_text(path), newline=""))  # line ends may stand inside quotes
    rows: list[tuple[int, Sequence[str]]] = []
    try:
        rows += ((reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: is no CSV ({one_line(error)})") from None
    if not rows:
        return [], []
    header = list(rows[0][1])
    return header, [
        (line, dict(zip(header, [*row, *[""] * (len(header) - len(row))], strict=False))) for line, row in rows[1:]
    ]
