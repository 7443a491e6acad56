"""Marks finished measurements that are no longer valid, in a file beside the journal, whose lines never change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pruningbench.base.files import read_plain, write_whole
from pruningbench.store.journal import latest
from pruningbench.store.records import Record

Group = tuple[str, str, int]
"""A task run: (cell, task, attempt)."""


@dataclass(frozen=True)
class Mark:
    """The reason why a task run is no longer valid.

    Attributes:
        why: what has changed since, in one line.
        cell: key of the cell that is now measured instead; the same cell, unless a component has a new version.
    """

    why: str
    cell: str


def read_marks(path: Path) -> dict[Group, Mark]:
    """Return the marks in a file; none if it is missing or damaged, because a run writes it again."""
    try:
        stored = json.loads(read_plain(path))
        return {(str(m["cell"]), str(m["task"]), int(m["attempt"])): Mark(str(m["why"]), str(m["now"])) for m in stored}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_marks(path: Path, marks: Mapping[Group, Mark]) -> None:
    """Write marks durably, so that a table made before everything is measured again knows them."""
    entries = [
        {"cell": cell, "task": task, "attempt": attempt, "why": mark.why, "now": mark.cell}
        for (cell, task, attempt), mark in marks.items()
    ]
    write_whole(path, (json.dumps(entries, indent=1) + "\n").encode(), durable=True)


def standing(records: Iterable[Record], marks: Mapping[Group, Mark]) -> list[tuple[Record, str]]:
    """Return the records that tables show, each with what is wrong with it, or "".

    Among several attempts at a task on a cell, the last valid one is shown. If none is valid, the last one is shown
    with what has changed, unless its cell has since been measured under another key.
    """
    items = list(records)
    sound = latest(record for record in items if record.group not in marks)
    measured = {(record.cell, record.task) for record in sound}
    invalid = [
        record
        for record in latest(record for record in items if (record.cell, record.task) not in measured)
        if (marks[record.group].cell, record.task) not in measured
    ]
    chosen = {id(record) for record in (*sound, *invalid)}
    return [(record, _words(record, marks.get(record.group))) for record in items if id(record) in chosen]


def _words(record: Record, mark: Mark | None) -> str:
    """Return what a reader of a table should know about a measurement, in one line, or ""."""
    if mark is not None:
        return f"stale: {mark.why}"
    if record.stale:
        return f"accepted: {record.stale}"
    if record.status == "ok" and not record.made_of:
        return "unchecked: measured by a version that did not record what rows are made of"
    unread = sorted(name for name, text in record.made_of.items() if text.endswith(" unread"))
    return f"version alone: the code of {', '.join(unread)} cannot be read" if unread else ""
