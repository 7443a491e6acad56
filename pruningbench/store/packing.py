"""Packs the per-sample values of many task runs into few columns, without losing a bit, and unpacks them again.

A run folder has one small file per task run. Most of what these files hold is alike: the same array names, the same
keys of samples, the same numbers of samples. A packed column holds one array name of a task for all cells: every
distinct array once, in the smallest type that represents its values exactly, and for each cell which one it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pruningbench.errors import DataError

Array = NDArray[Any]
TaskRun = tuple[str, str]
"""(cell, task)."""

LARGEST = 2 << 30
"""Largest total size of the unpacked arrays, in bytes."""
LONGEST_NAME = 40_000
"""Largest number of characters in the name of an array: a variant and a metric of 10,000 characters each fit."""
_DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
_SMALLER = ("uint8", "int8", "float16", "int16", "float32", "int32")
"""Types that values are tried in, smallest first."""


class Column(BaseModel):
    """One array name of a task over its cells.

    Attributes:
        text: the distinct arrays of text, flat; None for arrays of numbers.
        data: name of the stored array with the distinct arrays of numbers, flat, one after another.
        dtype: type of the numbers before packing.
        shapes: shape of each distinct array.
        of: for each cell of the task, the position of its array among the distinct ones; -1 if it has none.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    text: list[list[str]] | None = None
    data: str = ""
    dtype: str = ""
    shapes: list[list[int]]
    of: list[int]


class TaskColumns(BaseModel):
    """The columns of one task, by array name, and the cells that it was run on."""

    model_config = ConfigDict(extra="forbid", strict=True)
    cells: list[str]
    columns: dict[str, Column]


class Index(BaseModel):
    """What the stored arrays mean, by task."""

    model_config = ConfigDict(extra="forbid", strict=True)
    tasks: dict[str, TaskColumns] = Field(default_factory=dict)


def pack(samples: Mapping[TaskRun, Mapping[str, Array]]) -> tuple[Index, dict[str, Array]]:
    """Pack the arrays of task runs.

    Args:
        samples: (cell, task) -> arrays of numbers or text by name, as `pruningbench.store.samples` stores them.

    Returns:
        The index, and the arrays to store by the names that it uses. Equal samples give equal results.

    Raises:
        DataError: for arrays that are neither numbers nor text.
    """
    tasks: dict[str, list[str]] = {}
    for cell, task in sorted(samples):
        tasks.setdefault(task, []).append(cell)
    index = Index()
    stored: dict[str, Array] = {}
    for task, cells in tasks.items():
        names = sorted({name for cell in cells for name in samples[cell, task]})
        columns = {}
        for name in names:
            arrays = [samples[cell, task].get(name) for cell in cells]
            column, data = _column(arrays, f"{task}, {name}")
            if data is not None:
                column.data = str(len(stored))
                stored[column.data] = data
            columns[name] = column
        index.tasks[task] = TaskColumns(cells=cells, columns=columns)
    return index, stored


def _column(arrays: Sequence[Array | None], where: str) -> tuple[Column, Array | None]:
    distinct: list[Array] = []
    places: dict[tuple[str, tuple[int, ...], bytes], int] = {}
    of = []
    for array in arrays:
        if array is None:
            of.append(-1)
            continue
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in places:
            places[key] = len(distinct)
            distinct.append(array)
        of.append(places[key])
    shapes = [list(array.shape) for array in distinct]
    if all(array.dtype.kind == "U" for array in distinct):
        return Column(text=[[str(text) for text in array.ravel()] for array in distinct], shapes=shapes, of=of), None
    dtypes = {str(array.dtype) for array in distinct}
    if len(dtypes) != 1 or not dtypes <= set(_DTYPES):
        raise DataError(f"{where}: arrays of {', '.join(sorted(dtypes))} cannot be packed, only numbers or text")
    flat = np.concatenate([array.ravel() for array in distinct])
    return Column(dtype=dtypes.pop(), shapes=shapes, of=of), _smallest(flat)


def _smallest(values: Array) -> Array:
    """Return the values in the smallest type that gives back the same bits."""
    bits = values.tobytes()
    for name in _SMALLER:
        smaller = np.dtype(name)
        if smaller.itemsize >= values.dtype.itemsize or (smaller.kind == "f" and values.dtype.kind != "f"):
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            packed = values.astype(smaller)
            if packed.astype(values.dtype).tobytes() == bits:
                return packed
    return values


def unpack(index: Index, stored: Mapping[str, Array]) -> Iterator[tuple[TaskRun, dict[str, Array]]]:
    """Yield (cell, task) and its arrays by name, as they were before packing.

    The whole index is checked first, so a caller that writes nothing before the first result writes nothing at all
    for a damaged one.

    Raises:
        DataError: if the index and the stored arrays do not fit together, or unpack to more than `LARGEST` bytes.
    """
    columns = {}
    size = 0
    for task, packed in index.tasks.items():
        if len(set(packed.cells)) != len(packed.cells):
            raise DataError(f"task {task[:80]!r} lists a cell twice")
        for name, column in packed.columns.items():
            where = f"task {task[:80]!r}, array {name[:80]!r}"
            if not ("|" in name or name.startswith("keys of ")) or "\0" in name or len(name) > LONGEST_NAME:
                raise DataError(f"{where}: is not the name of an array of per-sample values")
            size += _unpacked_size(column, len(packed.cells), where)
            if size > LARGEST:
                raise DataError(f"the per-sample values unpack to more than {LARGEST:,} bytes")
            columns[task, name] = _distinct(column, stored, where)
    for task, packed in index.tasks.items():
        for i, cell in enumerate(packed.cells):
            yield (
                (cell, task),
                {name: columns[task, name][c.of[i]] for name, c in packed.columns.items() if c.of[i] >= 0},
            )


def _unpacked_size(column: Column, cells: int, where: str) -> int:
    """Return the bytes of a column's arrays over all cells, after checking that its parts fit together."""
    if len(column.of) != cells or not all(-1 <= place < len(column.shapes) for place in column.of):
        raise DataError(f"{where}: the index does not fit its {cells} cells")
    if any(len(shape) > 2 or min(shape, default=0) < 0 for shape in column.shapes):
        raise DataError(f"{where}: an array has more than two dimensions, or a negative one")
    if column.text is not None:
        if [len(texts) for texts in column.text] != [math.prod(shape) for shape in column.shapes]:
            raise DataError(f"{where}: the text does not fit its shapes")
        widths = [len(texts) * max(map(len, texts), default=0) * 4 for texts in column.text]
        return sum(widths[place] for place in column.of if place >= 0)
    if column.dtype not in _DTYPES:
        raise DataError(f"{where}: values of type {column.dtype[:80]!r} are not read")
    width = np.dtype(column.dtype).itemsize
    return sum(math.prod(column.shapes[place]) * width for place in column.of if place >= 0)


def _distinct(column: Column, stored: Mapping[str, Array], where: str) -> list[Array]:
    if column.text is not None:
        return [
            np.array(texts, dtype=str).reshape(shape) for texts, shape in zip(column.text, column.shapes, strict=True)
        ]
    flat = stored.get(column.data)
    sizes = [math.prod(shape) for shape in column.shapes]
    if flat is None or flat.ndim != 1 or str(flat.dtype) not in _DTYPES or len(flat) != sum(sizes):
        raise DataError(f"{where}: its stored values are missing, or do not fit its shapes")
    with np.errstate(invalid="ignore", over="ignore"):
        values = flat.astype(column.dtype)
    pieces = np.split(values, np.cumsum(sizes)[:-1]) if sizes else []
    return [piece.reshape(shape) for piece, shape in zip(pieces, column.shapes, strict=True)]
