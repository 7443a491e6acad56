"""Marks finished measurements that are no longer valid, in a file beside the journal, whose lines never change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pruningbench.base.files import read_plain, write_whole

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


def shown(groups: Sequence[Group], marks: Mapping[Group, Mark]) -> list[bool]:
    """Return which task runs tables show.

    Among several attempts at a task on a cell, the last valid one is shown. If none is valid, the last one is shown,
    unless its cell has since been measured under another key.
    """
    sound = _last(group for group in groups if group not in marks)
    rest = {
        (cell, task): attempt
        for (cell, task), attempt in _last(group for group in groups if group[:2] not in sound).items()
        if (mark := marks.get((cell, task, attempt))) is not None and (mark.cell, task) not in sound
    }
    last = rest | sound
    return [last.get(group[:2]) == group[2] and (group in marks) == (group[:2] in rest) for group in groups]


def _last(groups: Iterable[Group]) -> dict[tuple[str, str], int]:
    """Return the last attempt at each (cell, task)."""
    last: dict[tuple[str, str], int] = {}
    for cell, task, attempt in groups:
        last[cell, task] = max(last.get((cell, task), 0), attempt)
    return last


def remark(status: str, stale: str, made_of: Mapping[str, str]) -> str:
    """Return what a reader of a table should know about a measurement without a mark, in one line, or "".

    Args:
        status: the field of its `Record`, as are the others.
        stale: what differs from the parts that ``--accept-changed`` accepted.
        made_of: what it was made from.
    """
    if stale:
        return f"accepted: {stale}"
    if not made_of:
        return "unchecked: measured by a version that did not keep what rows are made of" if status == "ok" else ""
    if " unread" not in "\n".join(made_of.values()):
        return ""
    unread = sorted(name for name, text in made_of.items() if text.endswith(" unread"))
    return f"version alone: the code of {', '.join(unread)} cannot be read" if unread else ""
