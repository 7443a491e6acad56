"""Text tables: rows of named columns, each with its line number."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from pruningbench.contract import DataError, one_line, read_text


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the column names of a CSV file, and its rows with the line on which each ends.

    Values missing at the end of a row are empty; surplus values are left out.

    Raises:
        DataError: naming file and line, if the file is not UTF-8 or not CSV.
    """
    reader = csv.reader(StringIO(read_text(path), newline=""))  # quotes may contain line ends
    rows: list[tuple[int, Sequence[str]]] = []
    try:
        rows += ((reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: is not CSV ({one_line(error)})") from None
    if not rows:
        return [], []
    header = list(rows[0][1])
    return header, [
        (line, dict(zip(header, [*row, *[""] * (len(header) - len(row))], strict=False))) for line, row in rows[1:]
    ]
