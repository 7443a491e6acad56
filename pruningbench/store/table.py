"""A journal as columns: what tables are made from, without an object per measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.store.lines import Line, fast_parser, finished_tasks
from pruningbench.store.marks import Group, Mark, remark, shown
from pruningbench.store.records import INTEGERS, NUMBERS, TIMES, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOATS = frozenset({*NUMBERS, *TIMES, "sparsity"})
WHOLE = frozenset(INTEGERS)
TEXTS = frozenset(field.name for field in fields(Record) if field.type == "str") | {"status"}
CHUNK = 256
"""Number of lines that are kept as objects at a time: few enough that they stay in the processor's cache."""


def read_table(path: Path, names: Iterable[str], marks: Mapping[Group, Mark]) -> dict[str, NDArray[Any]]:
    """Return the measurements of a journal that tables show, column by column.

    Equal texts are one object, and halves of surrogate pairs, which no table can hold, are escaped.

    Args:
        path: the journal.
        names: fields of a `Record`.
        marks: what is no longer valid; among several attempts at a task, `marks.shown` chooses.

    Returns:
        ``name -> (N,)``: float64 (NaN where a number has no value), int64, or objects (text, mappings, True, False and
        None); and ``mark``: what a reader should know about each measurement, or "".

    Raises:
        RunFolderError: as `store.journal.read_journal` does.
    """
    import numpy as np

    columns = _Columns(names)
    groups: list[Group] = []
    sizes: list[int] = []
    chunk: list[Line] = []
    for task, _ in finished_tasks(path, _parser()):
        groups.append((task[0].cell, task[0].task, task[0].attempts))
        sizes.append(len(task))
        chunk += task
        if len(chunk) >= CHUNK:
            columns.add(chunk)
            chunk = []
    columns.add(chunk)
    table = columns.whole()
    keep = shown(groups, marks)
    if marks:
        of_lines = [mark for group, size in zip(groups, sizes, strict=True) for mark in repeat(marks.get(group), size)]
        for i, mark in enumerate(of_lines):
            if mark is not None:
                table["mark"][i] = whole_characters(f"stale: {mark.why}")
    if not all(keep):
        where = np.repeat(np.array(keep, dtype=bool), sizes)
        table = {name: column[where] for name, column in table.items()}
    return table


class _Columns:
    """Columns that grow by chunks of lines."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = [name for name in names if name not in ("run", "mark")]
        self._chunks: dict[str, list[NDArray[Any]]] = {name: [] for name in (*self._names, "mark")}
        self._texts: dict[str, str] = {}

    def add(self, lines: Sequence[Line]) -> None:
        """Append lines."""
        for name in self._names:
            self._chunks[name].append(self._column(name, list(map(attrgetter(name), lines))))
        marks = [remark(line.status, line.stale, line.made_of) for line in lines]
        self._chunks["mark"].append(self._shared(marks))

    def _column(self, name: str, values: list[Any]) -> NDArray[Any]:
        import numpy as np

        if name in FLOATS:
            return np.array(values, dtype=np.float64)
        if name in WHOLE:
            return np.array(values, dtype=np.int64)
        if name in TEXTS:
            return self._shared(values)
        if name in ("made_of", "accepted"):
            texts = self._texts
            values = [
                {texts.setdefault(key, key): texts.setdefault(text, text) for key, text in parts.items()}
                for parts in values
            ]
        return _objects(values)

    def _shared(self, values: list[str]) -> NDArray[Any]:
        """Return texts, with one object for equal ones."""
        return _objects(list(map(self._texts.setdefault, values, values)))

    def whole(self) -> dict[str, NDArray[Any]]:
        """Return all columns; this empties the object, so that no column is in memory twice."""
        import numpy as np

        return {name: np.concatenate(self._chunks.pop(name)) for name in list(self._chunks)}


def _parser() -> Callable[[bytes], Line | None]:
    """Return a parser of lines that escapes halves of surrogate pairs; only a `Record` can have them."""
    parse = fast_parser()

    def parse_escaped(line: bytes) -> Line | None:
        record = parse(line)
        if isinstance(record, Record):
            texts = {name: value for name, value in vars(record).items() if isinstance(value, str)}
            return replace(record, **{name: whole_characters(text) for name, text in texts.items()})  # type: ignore[arg-type]
        return record

    return parse_escaped


def whole_characters(text: str) -> str:
    """Escape lone surrogates, which come from file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    import numpy as np

    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
