"""A working copy of a run folder at a URL: its files, and a note of them as they were last equal here and there."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pruningbench.base.files import not_plain, read_plain, write_whole
from pruningbench.store.runfolder import DAMAGED, ENVIRONMENT, RESULTS, RUNNING, SOURCES, STALE, SUITE

NOTE = ".mirror.json"
FILES = (SUITE, ENVIRONMENT, RESULTS, STALE, SOURCES, DAMAGED)
ROOMS = ("masks", "weights", "samples", "exhibits", "figures")
NEEDLESS = (RUNNING, "cache")
"""What a run makes anew, and never brings to the URL."""
Stat = tuple[int, int, int]


@dataclass(frozen=True)
class Same:
    """A file as it was when it was equal here and there: its tag there, its status here."""

    tag: str
    stat: Stat


class WorkingCopy:
    """A folder of this machine with files of a run folder at a URL.

    Args:
        folder: the working copy; it need not exist yet.
        rooms: the subfolders that it has in common with the URL.
        url: the URL, for messages; by default, the one that the note names.

    Attributes:
        folder, url: as above.
        copy: a random text that identifies the working copy.
    """

    def __init__(self, folder: Path, rooms: tuple[str, ...] = ROOMS, url: str = "") -> None:
        self.folder, self.url, self._rooms = folder, url, rooms
        self.copy, self._same = uuid.uuid4().hex, dict[str, Same]()
        self.read_note()

    def read_note(self) -> None:
        """Read the note again; without a readable one, nothing is known to be equal."""
        try:
            note = json.loads(read_plain(self.folder / NOTE))
            same = {str(n): Same(str(tag), (int(a), int(b), int(c))) for n, (tag, (a, b, c)) in note["files"].items()}
            copy, url = str(note["copy"]), str(note.get("url", ""))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            copy, url, same = uuid.uuid4().hex, "", {}
        self.copy, self._same, self.url = copy, same, self.url or url

    def write_note(self) -> None:
        """Write the note; its time tells when the copy was last used.

        Raises:
            OSError: if the folder cannot be written.
        """
        files = {name: (same.tag, same.stat) for name, same in self._same.items()}
        content = json.dumps({"copy": self.copy, "url": self.url, "files": files})
        write_whole(self.folder / NOTE, content.encode())

    def here(self) -> dict[str, Stat]:
        """Return the files of the working copy that belong to the run, with their status."""
        names = [*FILES, *(f"{room}/{file}" for room in self._rooms for file in _listed(self.folder / room))]
        found = {name: stat_of(self.folder / name) for name in names}
        return {name: stat for name, stat in found.items() if stat is not None}

    def belongs(self, name: str) -> bool:
        """Whether a file of this name, relative to the folder, belongs to the run."""
        room, slash, file = name.partition("/")
        return name in FILES or (room in self._rooms and bool(slash) and "/" not in file and not file.startswith("."))

    def behind(self) -> bool:
        """Whether the working copy has changes that are not at the URL."""
        self.read_note()
        here = self.here()
        return here.keys() != self._same.keys() or any(self._same[name].stat != stat for name, stat in here.items())

    def others(self) -> list[str]:
        """Return the names of what is here and never gets to the URL, such as an observer's files."""
        try:
            names = sorted(os.listdir(self.folder))  # noqa: PTH208 - names only
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(".") and name not in (*FILES, *ROOMS, *NEEDLESS)]


def _listed(room: Path) -> Iterator[str]:
    if not_plain(room) == "is a folder":
        yield from sorted(name for name in os.listdir(room) if not name.startswith("."))  # noqa: PTH208 - many files


def stat_of(path: Path) -> Stat | None:
    """Return what tells a plain file from later versions of it; None for anything else."""
    try:
        if not_plain(path) is not None:
            return None
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
