"""Damaged journals: what can be read stays, the rest is set aside and measured again."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path

from pruningbench.base.files import open_plain, read_plain, write_whole
from pruningbench.errors import RunFolderError
from pruningbench.store.attempts import Attempt, attempts_of, read_attempts
from pruningbench.store.lines import DamagedJournalError, parse_record
from pruningbench.store.records import Record


@dataclass
class Salvage:
    """What can be read of a damaged journal.

    Attributes:
        records: the records of whole tasks, in order.
        kept, removed: the lines of these tasks, and all others.
        damaged: numbers, from 1, of the lines that are no records, or are no part of the task around them.
    """

    records: list[Record] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


def readable(path: Path) -> tuple[list[Attempt], bool]:
    """Return the whole tasks in a journal that may be damaged, and whether it is.

    Raises:
        RunFolderError: as `read_journal` does for anything but damage.
    """
    try:
        return read_attempts(path)[0], False
    except DamagedJournalError:
        return attempts_of(salvage(path).records), True


def salvage(path: Path) -> Salvage:
    """Read what can be read of a journal.

    Raises:
        RunFolderError: if a later version of pruningbench wrote a line, or if the journal is no plain file.
    """
    found, group, lines = Salvage(), list[Record](), list[bytes]()
    try:
        content = read_plain(path)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(io.BytesIO(content), start=1):
        try:
            record = parse_record(line)
        except RunFolderError as error:
            raise RunFolderError(f"{path}:{number}: {error}") from None
        goes_on = record is not None and group and record.group == group[-1].group and record.part == len(group) + 1
        if not goes_on:
            found.removed += lines  # a task of which the rest is missing
            group, lines = [], []
        if record is None or not (goes_on or record.part == 1):
            found.damaged.append(number)
            found.removed.append(line)
            continue
        group.append(record)
        lines.append(line)
        if record.part == record.parts:
            found.records += group
            found.kept += lines
            group, lines = [], []
    found.removed += lines
    return found


def mend(path: Path, aside: Path) -> list[str]:
    """Make a damaged journal readable; called by the only process that may write it.

    Args:
        path: the journal; a sound one is left as it is.
        aside: file to which the removed lines are appended.

    Returns:
        one line for each damaged line.

    Raises:
        RunFolderError: as `salvage` does, or if a file cannot be written.
    """
    if not readable(path)[1]:
        return []
    found = salvage(path)
    try:
        handle = open_plain(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with os.fdopen(handle, "wb") as file:
            file.write(b"".join(line if line.endswith(b"\n") else line + b"\n" for line in found.removed))
            file.flush()
            os.fsync(file.fileno())
        write_whole(path, b"".join(found.kept), durable=True)
    except OSError as error:
        raise RunFolderError(f"{path}: is damaged and cannot be mended ({error.strerror})") from error
    fate = f"moved to {aside.name}; a task that it belonged to is measured again"
    return [f"{path}:{number}: damaged line {fate}" for number in found.damaged]
