"""Images in parquet tables, as in hub data sets: a column of encoded images and one of labels."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

from pruningbench.contract import DataError, MissingDataError, check_regular, one_line, parse_json, printable

GROUPS_KEPT = 4
"""Number of row groups whose images stay in memory."""
LARGEST_GROUP = 2**32
"""Maximum bytes of a row group's images in memory, 4 GiB; row groups on the hub have about 0.5 GiB."""
AT_ONCE = 16
"""Rows read at once, so that a group that is too large is detected before it fills the memory."""
MOST_ROWS = 2**24
"""Maximum rows of a split, 17 million; ImageNet-21k has 14 million."""
MOST_CLASSES = 2**20
"""Maximum number of classes that have numbers but no names."""
INSTALL = "reading parquet needs pyarrow: pip install pruningbench[hub]"


def lacks_pyarrow() -> str | None:
    """Return what to install, or None if parquet can be read."""
    return None if find_spec("pyarrow") else INSTALL


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Attributes:
        image: encoded images, as bytes or as a struct with ``bytes``.
        label: integers, or class names; None for images without labels.
        key: row identifiers; None for row numbers.
    """

    image: str
    label: str | None
    key: str | None = None


class ParquetImages:
    """The rows of one or several parquet files, in order. Labels are read immediately, images when needed.

    Attributes:
        keys: an identifier of each row.
        labels: position of each row's class in `classes`; empty without a label column.
        classes: names of the classes.

    Raises:
        MissingDataError: if pyarrow is not installed.
        DataError: if a file is not parquet, or a column is missing.
    """

    def __init__(self, paths: Sequence[Path], columns: Columns, classes: Sequence[str] | None = None) -> None:
        lack = lacks_pyarrow()
        if lack:
            raise MissingDataError(lack)
        self._columns, self._paths = columns, list(paths)
        self._files = [_open(path) for path in paths]
        for path, file in zip(paths, self._files, strict=True):
            _check_columns(path, file.schema_arrow, columns)
        self._groups = [(f, g) for f, file in enumerate(self._files) for g in range(file.num_row_groups)]
        sizes = [self._files[f].metadata.row_group(g).num_rows for f, g in self._groups]
        self._starts = [0, *accumulate(sizes)]
        if min(sizes, default=0) < 0 or self._starts[-1] > MOST_ROWS:
            raise DataError(f"{self._paths[0]}: states {self._starts[-1]:,} rows; at most {MOST_ROWS:,} are read")
        self._groups_in_memory: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.keys = self._read_keys()
        self.labels, self.classes = self._read_labels(classes)

    def _column(self, name: str) -> list[Any]:
        column: list[Any] = []
        for path, file in zip(self._paths, self._files, strict=True):
            with _naming(path):
                for batch in file.iter_batches(columns=[name]):
                    column += batch.column(0).to_pylist()
        if len(column) != self._starts[-1]:
            raise DataError(
                f"{self._paths[0]}: column {name!r} has {len(column)} rows, but the files state {self._starts[-1]}"
            )
        return column

    def _read_keys(self) -> list[str]:
        if self._columns.key:
            return [str(value) for value in self._column(self._columns.key)]
        return [str(row) for row in range(self._starts[-1])]

    def _place(self, row: int) -> tuple[int, int]:
        """Return the row group that contains a row, and the row's position in it."""
        group = bisect_right(self._starts, row) - 1
        return group, row - self._starts[group]

    def _read_labels(self, classes: Sequence[str] | None) -> tuple[list[int], list[str]]:
        if self._columns.label is None:
            return [], []
        values = self._column(self._columns.label)
        where = f"{self._paths[0]}: column {self._columns.label!r}"
        if any(value is None for value in values):
            raise DataError(f"{where} has rows without a label")
        names = list(classes) if classes is not None else _class_names(self._files[0], self._paths[0], self._columns)
        if values and isinstance(values[0], str):
            names = names or sorted(set(values))
            position = {name: i for i, name in enumerate(names)}
            unknown = [value for value in values if value not in position]
            if unknown:
                raise DataError(f"{where} holds {unknown[0]!r}, which is not among the classes")
            return [position[value] for value in values], names
        largest = len(names) - 1 if names else MOST_CLASSES - 1
        wrong = [value for value in values if type(value) is not int or not 0 <= value <= largest]
        if wrong:
            raise DataError(f"{where} holds {str(wrong[0])[:80]}, but labels must lie in 0..{largest}")
        names = names or [str(i) for i in range(max(values, default=-1) + 1)]
        return values, names

    def image(self, row: int) -> bytes:
        """Return the encoded image of a row; several threads may call this."""
        group, place = self._place(row)
        with self._lock:
            if group not in self._groups_in_memory:
                self._groups_in_memory[group] = self._read_group(group)
                while len(self._groups_in_memory) > GROUPS_KEPT:
                    self._groups_in_memory.popitem(last=False)
            self._groups_in_memory.move_to_end(group)
            batches = self._groups_in_memory[group]
            value = batches[place // AT_ONCE].column(0)[place % AT_ONCE].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError("the row holds no image")  # noqa: TRY004 - the data is wrong, not the caller
        return content

    def _read_group(self, group: int) -> list[Any]:
        """Return the images of a row group in batches of `AT_ONCE` rows."""
        file, number = self._groups[group]
        path, images, size = self._paths[file], [], 0
        with _naming(path):
            for batch in self._files[file].iter_batches(AT_ONCE, row_groups=[number], columns=[self._columns.image]):
                images.append(batch)
                size += batch.nbytes
                if size > LARGEST_GROUP:
                    raise DataError(
                        f"{path}: row group {number} holds more than {LARGEST_GROUP:,} bytes of images; write it with "
                        "fewer rows per group"
                    )
        rows = sum(batch.num_rows for batch in images)
        if rows != self._starts[group + 1] - self._starts[group] or any(b.num_rows != AT_ONCE for b in images[:-1]):
            raise DataError(f"{path}: row group {number} has {rows} rows, but the file states another number")
        return images

    def where(self, row: int) -> str:
        """Return the description of a row for an error message."""
        return f"{self._paths[self._groups[self._place(row)[0]][0]]}, row {row} of the split"


def _open(path: Path) -> Any:
    import pyarrow.parquet

    with _naming(path):
        check_regular(path)
        return pyarrow.parquet.ParquetFile(path)


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        DataError: if the file is not parquet.
    """
    return list(_open(path).schema_arrow.names)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn pyarrow's errors for a damaged file into one line that names the file."""
    import pyarrow

    try:
        yield
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        first = one_line(str(error).partition("\n")[0]) or type(error).__name__
        raise DataError(
            f"{printable(path)}: cannot be read as parquet ({first}); remove it and fetch it again"
        ) from None


def _check_columns(path: Path, schema: Any, columns: Columns) -> None:
    for name in filter(None, (columns.image, columns.label, columns.key)):
        if name not in schema.names:
            raise DataError(
                f"{path}: there is no column {name!r}; the columns are: {one_line(', '.join(schema.names))}"
            )


def _class_names(file: Any, path: Path, columns: Columns) -> list[str]:
    """Return the class names that hub data sets store in a table's metadata; empty if there are none."""
    noted = (file.schema_arrow.metadata or {}).get(b"huggingface")
    if not noted:
        return []
    where = f"{path}: metadata 'huggingface'"
    feature: Any = parse_json(noted, where)
    for key in ("info", "features", columns.label):
        feature = feature.get(key) or {} if isinstance(feature, dict) else None
    names = (feature.get("names") or []) if isinstance(feature, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: names of column {columns.label!r} must be a list of strings")
    return names
