"""Attempts: what resuming needs of each finished task run in a journal, without an object per measurement.

The records of a million measurements take gigabytes as objects. Which tasks are finished, and what they were made from,
is said once for all lines of a task; the lines stay in the journal and are read again where they are needed.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from pruningbench.base.files import open_plain
from pruningbench.errors import RunFolderError
from pruningbench.store.lines import Line, finished_tasks, parse_record
from pruningbench.store.madeof import NOTHING, Names, Packed, packed, packing_parser
from pruningbench.store.records import Record, Status

_STATUS, _METRIC, _PEAK = attrgetter("status"), attrgetter("metric"), attrgetter("peak_memory_mb")


class Attempt:
    """One finished attempt at a task on a cell.

    Attributes:
        cell, task, attempts: as in its records, which share them.
        plan, model, pruner, recipe, device, stale, status, seconds, prepare_seconds: those of its first record.
        metrics: the metrics of its records with a value, in order.
        failed: whether a record has no value; `some_ok`: whether one has.
        peak_memory_mb: the largest of the records with a value; NaN if none knows it.
        parts, accepted_parts: names and texts of `made_of` and `accepted`, in tuples that attempts share.
    """

    __slots__ = (
        "_lines", "_ok_parts", "accepted_parts", "attempts", "cell", "device", "failed", "metrics", "model", "parts",
        "peak_memory_mb", "plan", "prepare_seconds", "pruner", "recipe", "seconds", "some_ok", "stale", "status",
        "task",
    )  # fmt: skip

    cell: str
    task: str
    attempts: int
    plan: str
    model: str
    pruner: str
    recipe: str
    device: str
    stale: str
    status: Status
    seconds: float
    prepare_seconds: float
    metrics: Names
    failed: bool
    some_ok: bool
    peak_memory_mb: float
    parts: Packed
    accepted_parts: Packed

    def __init__(self, lines: Sequence[Line], where: Callable[[], list[Record]], shared: dict[Any, Any]) -> None:
        """Keep what the lines of a task say.

        Args:
            lines: the lines.
            where: returns their records.
            shared: equal values that attempts have in common, which grows.
        """
        first, one = lines[0], shared.setdefault
        good = list(map(_STATUS, lines)).count("ok")
        values = lines if good == len(lines) else [line for line in lines if line.status == "ok"]
        self.cell, self.attempts, self.plan = first.cell, first.attempts, first.plan
        self.seconds, self.prepare_seconds = first.seconds, first.prepare_seconds
        task, model, pruner, recipe = first.task, first.model, first.pruner, first.recipe
        self.task, self.model, self.pruner, self.recipe = (
            one(task, task), one(model, model), one(pruner, pruner), one(recipe, recipe)
        )  # fmt: skip
        device, stale, status, metrics = first.device, first.stale, first.status, tuple(map(_METRIC, values))
        self.device, self.stale, self.status, self.metrics = (
            one(device, device), one(stale, stale), one(status, status), one(metrics, metrics)
        )  # fmt: skip
        self.failed, self.some_ok = len(values) < len(lines), bool(values)
        peaks = set(map(_PEAK, values)) - {None}  # unknown: None in a structure, NaN in a record
        self.peak_memory_mb = max((peak for peak in peaks if not math.isnan(peak)), default=math.nan)
        self.parts = _parts(first.made_of, shared)
        same = not values or values[0].made_of is first.made_of
        self._ok_parts = self.parts if same else _parts(values[0].made_of, shared)
        self.accepted_parts = _parts(first.accepted, shared)
        self._lines = where

    @property
    def group(self) -> tuple[str, str, int]:
        """The attempt that its records belong to: (cell, task, attempt)."""
        return (self.cell, self.task, self.attempts)

    @property
    def knows_parts(self) -> bool:
        """Whether its first record says what it was made from; those of old versions do not."""
        return bool(self.parts[0])

    @property
    def made_of(self) -> Mapping[str, str]:
        """What the task was actually made from, as its first record says."""
        return dict(zip(*self.parts, strict=True))

    @property
    def accepted(self) -> Mapping[str, str]:
        """The parts that ``--accept-changed`` took instead, as its first record says."""
        return dict(zip(*self.accepted_parts, strict=True))

    @property
    def made_of_ok(self) -> Mapping[str, str]:
        """What its first record with a value was made from; that of the first record if none has."""
        return dict(zip(*self._ok_parts, strict=True))

    @property
    def compared(self) -> Mapping[str, str]:
        """The parts that a measurement of today has to be made from to be the same: `made_of`, or what was accepted."""
        made_of = dict(zip(*self.parts, strict=True))
        return made_of if self.accepted_parts is NOTHING else {**made_of, **self.accepted}

    @property
    def lines(self) -> tuple[Record, ...]:
        """Its records, which are read from the journal.

        Raises:
            RunFolderError: if the journal has changed since.
        """
        records = tuple(self._lines())
        if any(record.group != self.group for record in records):
            raise RunFolderError(f"a journal was changed while it was read (cell {self.cell}); run the command again")
        return records

    def with_lines_of(self, other: Attempt) -> Attempt:
        """Return this attempt with the records of another under the same number."""
        lines = [*self.lines, *other.lines]
        return Attempt(lines, lambda: lines, {})


def attempts_of(records: Iterable[Record]) -> list[Attempt]:
    """Return the attempts of records in memory, of which those of a task follow each other."""
    shared: dict[Any, Any] = {}
    groups = (list(lines) for _, lines in groupby(records, key=lambda record: record.group))
    return [_of_records(lines, shared) for lines in groups]


def _of_records(lines: list[Record], shared: dict[Any, Any]) -> Attempt:
    return Attempt(lines, lambda: lines, shared)


def read_attempts(path: Path, shared: dict[Any, Any] | None = None) -> tuple[list[Attempt], int]:
    """Read the finished tasks of a journal, as `store.journal.read_journal` does.

    Args:
        path: the journal.
        shared: equal values that its attempts have in common with others, which grows.

    Returns:
        The attempts in order, and the length in bytes of the file up to their end.

    Raises:
        DamagedJournalError, RunFolderError: as `read_journal` does.
    """
    found: list[Attempt] = []
    shared = {} if shared is None else shared
    begin = 0
    for task, end in finished_tasks(path, packing_parser(shared)):
        found.append(Attempt(task, _Place(path, begin, end, len(task)), shared))
        begin = end
    return found, begin


def attempt_at(records: Sequence[Record], path: Path, begin: int, end: int, shared: dict[Any, Any]) -> Attempt:
    """Return the attempt of records that have just been written to a journal, at this place in bytes."""
    return Attempt(records, _Place(path, begin, end, len(records)), shared)


def last_attempts(attempts: Iterable[Attempt]) -> dict[tuple[str, str], Attempt]:
    """Return the last attempt at each task on a cell, by (cell, task), as `store.journal.latest` does for records."""
    last: dict[tuple[str, str], Attempt] = {}
    for attempt in attempts:
        key = (attempt.cell, attempt.task)
        known = last.get(key)
        if known is None:
            last[key] = attempt
        elif attempt.attempts > known.attempts:
            del last[key]  # so that the last attempts are in the order of the journal
            last[key] = attempt
        elif attempt.attempts == known.attempts:
            last[key] = known.with_lines_of(attempt)
    return last


class _Place:
    """Where the records of an attempt are in a journal; lines of an earlier, unfinished attempt may be before them."""

    __slots__ = ("_begin", "_count", "_end", "_path")

    def __init__(self, path: Path, begin: int, end: int, count: int) -> None:
        self._path, self._begin, self._end, self._count = path, begin, end, count

    def __call__(self) -> list[Record]:
        try:
            with os.fdopen(open_plain(self._path), "rb") as file:
                file.seek(self._begin)
                content = file.read(self._end - self._begin)
        except OSError as error:
            raise RunFolderError(f"{self._path}: cannot be read ({error.strerror})") from None
        records = [parse_record(line) for line in list(io.BytesIO(content))[-self._count :]]
        if None in records or len(records) != self._count:
            raise RunFolderError(f"{self._path}: was changed while it was read; run the command again")
        return [record for record in records if record is not None]


def _parts(parts: Mapping[str, str] | Packed, shared: dict[Any, Any]) -> Packed:
    """Return the parts of a record, or those that a line has packed already."""
    return parts if isinstance(parts, tuple) else packed(parts, shared)
