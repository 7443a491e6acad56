"""The working copies in the cache: which of them are in use, which may be removed, and how much room all of them take.

A process that uses a copy holds a shared lock of it until its end, however it ends; whoever removes one needs the lock
for itself. So no copy is removed that somebody uses, and who comes during a removal waits and then begins with none.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pruningbench.base.limits import size_limit
from pruningbench.store.cachefiles import COPIES
from pruningbench.store.folderlock import is_locked
from pruningbench.store.workingcopy import NOTE, WorkingCopy

if sys.platform != "win32":
    import fcntl

WORKING, READING = "work", "read"
"""Folders of the copies that runs work on, and of those for reading only."""
LIMIT = "PRUNINGBENCH_REMOTE_CACHE"
_REMOVED = ".removed"
IN_USE, NOT_UPLOADED = "in use", "has work that is not uploaded"

_held: dict[Path, int] = {}
"""The locks that this process holds, with their descriptors."""
_known: dict[Path, dict[Path, int]] = {}
"""By cache folder, the copies and their sizes, as far as this process knows: to measure all for each URL takes long."""


def _let_go() -> None:
    """Close the locks in a process that was forked: it may outlive this one."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@dataclass(frozen=True)
class Copy:
    """A copy of a run folder at a URL.

    Attributes:
        root: its folder in the cache, which holds nothing else.
        origin: the URL, as far as it is known.
        size: bytes on disk.
        made, used: when it was made and when it was last used, in seconds since 1970.
        kept: why it must not be removed; "" if it may be.
    """

    root: Path
    origin: str
    size: int
    made: float
    used: float
    kept: str
    kind: str = COPIES

    @property
    def files(self) -> tuple[Path, ...]:
        """The folder."""
        return (self.root,)

    def remove(self) -> bool:
        """Remove it, and return whether that was possible: it is left if it is in use or has gained work meanwhile."""
        handle = _locked(self.root, shared=False)
        if handle is None:
            return False
        try:
            if _kept(self.root):
                return False
            # moved first, so that a kill leaves no copy with a part of its files, which would seem to have new work
            self.root.rename(self.root.with_name(f".{uuid.uuid4().hex[:12]}{_REMOVED}"))
            _lock(self.root).unlink(missing_ok=True)
            _clear(self.root.parent)
            return True
        except OSError:
            return False
        finally:
            os.close(handle)


def budget() -> int:
    """Return how many bytes all copies may take.

    Raises:
        UsageError: if PRUNINGBENCH_REMOTE_CACHE is not a number >= 0.
    """
    return size_limit(LIMIT)


def hold(root: Path) -> None:
    """Keep a copy from being removed until this process ends; it need not exist yet.

    Where folders cannot be made or locked, nothing is held, and no process removes anything.
    """
    handle = _locked(root, shared=True)
    if handle is not None:
        if root in _held:
            os.close(_held.pop(root))
        _held[root] = handle


def _lock(root: Path) -> Path:
    return root.with_name(f".{root.name}.lock")


def _locked(root: Path, *, shared: bool) -> int | None:
    """Return a descriptor with a copy's lock; None if there can be none, or if others hold it and it is not shared."""
    if sys.platform == "win32":
        return None
    path = _lock(root)
    while True:
        try:
            if shared:
                path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            if shared:
                continue  # removed between the two lines
            return None
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass  # who held it has removed the copy, and the lock with it
        except OSError:  # others hold it, or a file system without locks
            os.close(handle)
            return None
        os.close(handle)


def _kept(root: Path) -> str:
    """Return why a copy must not be removed, whoever holds its lock; "" if it may be."""
    for folder in _folders(root) if root.name == WORKING else ():
        if is_locked(folder):
            return IN_USE
        copy = WorkingCopy(folder)
        if copy.behind():
            return NOT_UPLOADED
        if others := copy.others():
            return f"holds what is not at the URL, such as {others[0]}"
    return ""


def _clear(place: Path) -> None:
    """Remove what was removed from the place of a URL, and the place if nothing is left there."""
    for left in place.glob(f".*{_REMOVED}"):
        shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):  # there is another copy
        place.rmdir()


def _folders(root: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    return []


def copies(cache: Path) -> list[Copy]:
    """Return the copies in a cache folder, the most recently used first."""
    roots = [root for name in (WORKING, READING) for root in sorted((cache / COPIES).glob(f"*/{name}"))]
    found = [_copy(root) for root in roots if root.is_dir() and not root.is_symlink()]
    return sorted(found, key=lambda copy: (-copy.used, copy.root))


def _copy(root: Path) -> Copy:
    handle = _locked(root, shared=False)
    try:
        kept = IN_USE if handle is None else _kept(root)
    finally:
        if handle is not None:
            os.close(handle)
    size, times = _size_and_times(root)
    notes = [(folder / NOTE).stat().st_mtime for folder in _folders(root) if (folder / NOTE).is_file()]
    used = max(notes, default=times[1])
    urls = [WorkingCopy(folder).url or folder.name for folder in _folders(root)]
    return Copy(root, ", ".join(urls), size, min(times[0], used), used, kept)


def _size_and_times(root: Path) -> tuple[int, tuple[float, float]]:
    """Return the bytes of all files below a folder, and when the first and the last of them was changed."""
    size, times = 0, list[float]()
    for place, _, names in os.walk(root):
        for name in names:
            with suppress(OSError):
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118 - there may be many files
                size += status.st_size
                times.append(status.st_mtime)
    return size, (min(times, default=0.0), max(times, default=0.0))


class _Sized(Protocol):
    @property
    def size(self) -> int: ...
    @property
    def used(self) -> float: ...


S = TypeVar("S", bound=_Sized)


def too_many(found: Iterable[S], may_go: Sequence[S], limit: int) -> list[S]:
    """Return the least recently used of `may_go` without which all of `found` take at most `limit` bytes.

    If even all of them are not enough, all are returned.
    """
    total, chosen = sum(one.size for one in found), []
    for one in sorted(may_go, key=lambda one: one.used):
        if total <= limit:
            break
        chosen.append(one)
        total -= one.size
    return chosen


def make_room(cache: Path, root: Path) -> None:
    """Remove the least recently used copies that may go, until all take no more than `budget` allows.

    Args:
        cache: the cache folder.
        root: the copy that was used just now.

    Raises:
        UsageError: if the limit is no number.
    """
    limit, known = budget(), _known.get(cache)
    if known is not None:
        known[root] = _size_and_times(root)[0]
        if sum(known.values()) <= limit:
            return
    for place in (cache / COPIES).glob("*"):
        _clear(place)  # what a kill has left
    found = copies(cache)
    going = too_many(found, [copy for copy in found if not copy.kept], limit)
    gone = {copy.root for copy in going if copy.remove()}
    _known[cache] = {copy.root: copy.size for copy in found if copy.root not in gone}
