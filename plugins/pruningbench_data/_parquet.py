"""Images in parquet tables, as hub data sets hold them: a column of encoded images, one of labels."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pruningbench.contract import DataError, MissingDataError

GROUPS_KEPT = 4
"""Row groups whose images stay in memory."""
INSTALL = "reading parquet needs pyarrow: pip install pruningbench[hub]"


def lacks_pyarrow() -> str | None:
    """Return what to install, or None if parquet can be read."""
    return None if find_spec("pyarrow") else INSTALL


@dataclass(frozen=True)
class Columns:
    """Which columns hold what.

    Attributes:
        image: encoded images, as bytes or as a struct with ``bytes``.
        label: whole numbers, or names of classes; None for images without labels.
        key: what identifies a row, or None for its number.
    """

    image: str
    label: str | None
    key: str | None = None


class ParquetImages:
    """The rows of one or several parquet files, in order. Labels are read at once, images when needed.

    Attributes:
        keys: an identifier of each row.
        labels: position of each row's class in `classes`; empty without a label column.
        classes: names of the classes.

    Raises:
        MissingDataError: if pyarrow is not installed.
        DataError: for a file that is no parquet, or lacks a column.
    """

    def __init__(self, paths: Sequence[Path], columns: Columns, classes: Sequence[str] | None = None) -> None:
        lack = lacks_pyarrow()
        if lack:
            raise MissingDataError(lack)
        self._columns = columns
        self._files = [_open(path) for path in paths]
        for path, file in zip(paths, self._files, strict=True):
            _check_columns(path, file.schema_arrow, columns)
        self._paths = list(paths)
        self._groups = [(f, g) for f, file in enumerate(self._files) for g in range(file.num_row_groups)]
        sizes = [self._files[f].metadata.row_group(g).num_rows for f, g in self._groups]
        self._places = [(group, row) for group, size in enumerate(sizes) for row in range(size)]
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.keys = self._read_keys()
        self.labels, self.classes = self._read_labels(classes)

    def _column(self, name: str) -> list[Any]:
        return [value for file in self._files for value in file.read(columns=[name]).column(name).to_pylist()]

    def _read_keys(self) -> list[str]:
        if self._columns.key:
            return [str(value) for value in self._column(self._columns.key)]
        return [str(row) for row in range(len(self._places))]

    def _read_labels(self, classes: Sequence[str] | None) -> tuple[list[int], list[str]]:
        if self._columns.label is None:
            return [], []
        values = self._column(self._columns.label)
        where = f"{self._paths[0]}: column {self._columns.label!r}"
        if any(value is None for value in values):
            raise DataError(f"{where} has rows without a label")
        names = list(classes) if classes is not None else _class_names(self._files[0].schema_arrow, self._columns.label)
        if values and isinstance(values[0], str):
            names = names or sorted(set(values))
            position = {name: i for i, name in enumerate(names)}
            unknown = [value for value in values if value not in position]
            if unknown:
                raise DataError(f"{where} holds {unknown[0]!r}, which is not among the classes")
            return [position[value] for value in values], names
        names = names or [str(i) for i in range(max(values, default=-1) + 1)]
        wrong = [value for value in values if not isinstance(value, int) or not 0 <= value < len(names)]
        if wrong:
            raise DataError(f"{where} holds {wrong[0]!r}, but must lie in 0..{len(names) - 1}")
        return values, names

    def image(self, row: int) -> bytes:
        """Return the encoded image of a row; may be called from several threads."""
        group, place = self._places[row]
        with self._lock:
            if group not in self._kept:
                file, number = self._groups[group]
                table = self._files[file].read_row_group(number, columns=[self._columns.image])
                self._kept[group] = table.column(self._columns.image)
                while len(self._kept) > GROUPS_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(group)
            value = self._kept[group][place].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError("the row holds no image")  # noqa: TRY004 - the data is wrong, not the caller
        return content

    def where(self, row: int) -> str:
        """Return what to call a row in an error."""
        return f"{self._paths[self._groups[self._places[row][0]][0]]}, row {row} of the split"


def _open(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read as parquet ({first}); remove it and fetch it again") from None


def _check_columns(path: Path, schema: Any, columns: Columns) -> None:
    for name in filter(None, (columns.image, columns.label, columns.key)):
        if name not in schema.names:
            raise DataError(f"{path}: there is no column {name!r}; there are: {', '.join(schema.names)}")


def _class_names(schema: Any, label: str) -> list[str]:
    """Return the class names that hub data sets note in a table's metadata; empty if they do not."""
    noted = (schema.metadata or {}).get(b"huggingface")
    if not noted:
        return []
    feature = json.loads(noted).get("info", {}).get("features", {}).get(label, {})
    return list(feature.get("names") or [])
