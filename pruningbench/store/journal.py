"""The journal: append-only lines that are durable as soon as a task finishes and survive kill -9."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pruningbench.base.files import open_plain
from pruningbench.errors import PruningBenchError, RunFolderError
from pruningbench.store.attempts import Attempt, attempt_at, read_attempts
from pruningbench.store.lines import finished_tasks, parse_record
from pruningbench.store.records import Record


def read_journal(path: Path) -> tuple[list[Record], int]:
    """Read the finished tasks of a journal.

    The lines of a task are written together. A task with missing lines (the process was killed while writing) is
    left out, and so is an incomplete last line.

    Returns:
        The records of finished tasks in order, and the length in bytes of the file up to their end.

    Raises:
        DamagedJournalError: if a line other than the last is not a record; the message names the line.
        RunFolderError: if a later version of pruningbench wrote a line, or if the journal is a link, a pipe or a
            device.
    """
    records: list[Record] = []
    good = 0
    for task, end in finished_tasks(path, parse_record):
        records += task
        good = end
    return records, good


class Journal:
    """A journal opened for writing by the only process that may write it.

    Opening cuts off lines that an earlier process left unfinished at the end of the file.

    Attributes:
        path: its file.
        attempts: what it says of each finished task run, in order; grows with `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shared: dict[Any, Any] = {}
        self.attempts, good = read_attempts(path, self._shared)
        try:
            self._file = open_plain(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from None
        self._links = os.fstat(self._file).st_nlink  # 0 on file systems that do not count
        try:
            if os.fstat(self._file).st_size != good:
                os.ftruncate(self._file, good)
                os.fsync(self._file)
        except BaseException:
            os.close(self._file)
            raise

    def check(self) -> None:
        """Make sure that appended lines go to the file at `path`.

        Raises:
            RunFolderError: if the file has been deleted or moved away since it was opened.
        """
        if os.fstat(self._file).st_nlink < self._links or not os.path.lexists(self.path):
            raise RunFolderError(
                f"{self.path}: was deleted or moved during the run, together with the finished tasks: "
                "move it back, or run the same command again to start over"
            )

    def append(self, records: Sequence[Record]) -> Attempt:
        """Write the lines of one finished task, and return what they say once they are on disk.

        Raises:
            PruningBenchError: if writing fails; the journal is then unchanged.
            RunFolderError: if the journal no longer exists.
        """
        self.check()
        numbered = _numbered(records)
        data = encoded(numbered)
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            raise PruningBenchError(
                f"{self.path}: cannot be written ({error.strerror}); finished tasks are safe: make room and "
                "run the same command again"
            ) from error
        self.attempts.append(attempt_at(numbered, self.path, size, size + len(data), self._shared))
        return self.attempts[-1]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def finished_part(content: bytes) -> bytes:
    """Return the content of a journal without what follows its last finished task, which may still be being written."""
    end = content.rfind(b"\n") + 1
    while end:
        start = content.rfind(b"\n", 0, end - 1) + 1
        try:
            line = json.loads(content[start:end])
            unfinished = isinstance(line, dict) and line.get("part", 1) != line.get("parts", 1)
        except (ValueError, RecursionError):
            unfinished = False  # damaged: whoever opens the journal sets it aside
        if not unfinished:
            break
        end = start
    return content[:end]


def encoded(records: Sequence[Record]) -> bytes:
    """Return the lines of a task, numbered, as a journal holds them."""
    lines = [json.dumps(r.to_json(), allow_nan=False, separators=(",", ":")) for r in _numbered(records)]
    return "".join(f"{line}\n" for line in lines).encode()


def _numbered(records: Iterable[Record]) -> list[Record]:
    from dataclasses import replace

    items = list(records)
    return [replace(record, part=i, parts=len(items)) for i, record in enumerate(items, start=1)]


def latest(records: Iterable[Record]) -> list[Record]:
    """Keep only the lines of the last attempt at each (cell, task)."""
    last: dict[tuple[str, str], int] = {}
    items = list(records)
    for record in items:
        key = (record.cell, record.task)
        last[key] = max(last.get(key, record.attempts), record.attempts)
    return [record for record in items if record.attempts == last[record.cell, record.task]]
