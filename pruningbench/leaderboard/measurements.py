"""Rows of the results table, read from its columns without a dictionary for each row."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas as pd

    from pruningbench.leaderboard.rows import ColumnKey, RowKey


class Line(Mapping[Any, Any]):
    """One measurement, see `pruningbench.contract.Measurement`: a view into columns."""

    __slots__ = ("_columns", "place")

    def __init__(self, columns: Mapping[Any, Sequence[Any]], place: int) -> None:
        self._columns = columns
        self.place = place

    def __getitem__(self, name: Any) -> Any:
        return self._columns[name][self.place]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return repr(dict(self))


class _Same(Sequence[Any]):
    """A column with one value, however long it is."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getitem__(self, index: Any) -> Any:
        return self._value

    def __len__(self) -> int:
        return sys.maxsize


class Measurements(Sequence[Line]):
    """Measurements in the order of `places`, which are positions in columns that several objects share.

    Attributes:
        columns: name -> values, as Python objects.
        places: positions in the columns.
    """

    def __init__(self, columns: Mapping[Any, Sequence[Any]], places: Sequence[int]) -> None:
        self.columns = columns
        self.places = places

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Measurements:
        """Return the rows of a table."""
        return cls({name: frame[name].tolist() for name in frame.columns}, range(len(frame)))

    def at(self, places: Sequence[int]) -> Measurements:
        """Return the measurements at these positions in the columns."""
        return Measurements(self.columns, places)

    def column(self, name: str, default: Any = None) -> list[Any]:
        """Return a column; `default` for each measurement if it is missing."""
        values = self.columns.get(name)
        return [default] * len(self) if values is None else [values[i] for i in self.places]

    def tuples(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Yield the values of these columns for each measurement."""
        return zip(*(self.column(name) for name in names), strict=True)

    def replaced(self, name: str, value: Any) -> Measurements:
        """Return the same measurements with one value in the whole of a column."""
        return Measurements({**self.columns, name: _Same(value)}, self.places)

    @overload
    def __getitem__(self, index: int) -> Line: ...

    @overload
    def __getitem__(self, index: slice) -> Measurements: ...

    def __getitem__(self, index: int | slice) -> Line | Measurements:
        if isinstance(index, slice):
            return self.at(self.places[index])
        return Line(self.columns, self.places[index])

    def __iter__(self) -> Iterator[Line]:
        columns = self.columns
        return (Line(columns, place) for place in self.places)

    def __len__(self) -> int:
        return len(self.places)


def row_key(measurement: Mapping[Any, Any]) -> RowKey:
    """Return model, pruner, recipe and sparsity."""
    m = measurement
    return (m["model"], m["pruner"], m["recipe"], float(m["sparsity"]))


def column_key(measurement: Mapping[Any, Any]) -> ColumnKey:
    """Return task, variant and metric."""
    return (measurement["task"], measurement["variant"], measurement["metric"])
