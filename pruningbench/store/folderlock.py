"""The lock of a run folder: one process writes, on this machine and on others that share the file system.

The lock itself is the operating system's: it ends with its process, whatever happens. Some shared file systems refuse
such locks, and some grant them on each machine separately, so there is a lease, too (`pruningbench.store.lease`).
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pruningbench.base.files import open_plain, read_plain
from pruningbench.errors import RunFolderError
from pruningbench.store.lease import LARGEST, LEASE, Lease, LostLeaseError, Repeating, is_at_work

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
EVERY = 10.0
"""Seconds between two renewals of the lease."""

_held: set[int] = set()
"""The locks that this process holds."""


def _let_go() -> None:
    """Close the locks in a process that a component has forked: it may outlive this one, and must hold no lock."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class LeaseFile:
    """A lease as a file in a folder.

    It is written in place: network file systems may show the file that was there before for a while after another has
    been moved over it, but look up the content of a file each time it is opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes | None:
        """Return the content; None if there is no file that can be read."""
        try:
            return read_plain(self.path, most=LARGEST)
        except OSError:
            return None

    def create(self, content: bytes) -> bool:
        """Make the file; return False if it exists."""
        try:
            self._write(content, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        return True

    def write(self, content: bytes) -> None:
        """Replace the content of the file."""
        self._write(content, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def _write(self, content: bytes, flags: int) -> None:
        handle = open_plain(self.path, flags)
        try:
            os.write(handle, content)
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


class FolderLock:
    """The lock of a run folder.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: int | None = None
        self._lease = Lease(LeaseFile(folder / LEASE), os.fspath(folder), machine(), EVERY)
        self._renewal: Repeating | None = None
        self._process = os.getpid()
        self._lost = ""

    def acquire(self, warn: Callable[[str], None]) -> None:
        """Make this process the only one that writes into the folder, until it ends.

        Args:
            warn: receives lines about a process on another machine that may be at work.

        Raises:
            RunFolderError: if another process holds the lock, or the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{self._folder}: output folder cannot be made ({error.strerror})") from None
        if sys.platform != "win32":
            self._handle = _flock(self._folder)
        try:
            self._lease.take(warn, locked=self._handle is not None)
        except OSError as error:
            self.release()
            raise RunFolderError(f"{self._folder / LEASE}: cannot be written ({error.strerror})") from None
        except BaseException:
            self.release()
            raise
        self._process, self._lost = os.getpid(), ""
        self._renewal = Repeating(EVERY, self._renew)

    def _renew(self) -> bool:
        try:
            self._lease.renew()
        except LostLeaseError as error:
            self._lost = str(error)
            return False
        except OSError:
            return True  # a full disk, or a folder that is gone, which the driver finds out and says
        return True

    def check(self) -> None:
        """Make sure that this process may still write.

        Raises:
            LostLeaseError: if a process on another machine has taken over.
        """
        if self._lost:
            raise LostLeaseError(self._lost)

    def release(self) -> None:
        """Let other processes write into the folder again."""
        if self._process == os.getpid() and self._renewal is not None:
            self._renewal.stop()
            self._renewal = None
            with suppress(OSError):
                self._lease.release()
        if self._handle in _held:
            _held.discard(self._handle)
            os.close(self._handle)
        self._handle = None


def _flock(folder: Path) -> int | None:
    """Return a descriptor with the system's lock; None if the file system has no locks.

    Raises:
        RunFolderError: if another process holds it.
    """
    try:
        handle = open_plain(folder / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise RunFolderError(f"{folder / LOCK}: cannot be opened ({error.strerror})") from None
    for patience in (0.2, 0.4, 0.8, 1.6, 0):  # a killed process may take a moment to end
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(patience)
        except OSError:
            os.close(handle)
            return None
        else:
            _held.add(handle)
            return handle
    os.close(handle)
    raise RunFolderError(f"{folder}: another process{_who(folder)} is running this suite here; wait for it, or choose "
                         "another --out")  # fmt: skip


def _who(folder: Path) -> str:
    holder = Lease(LeaseFile(folder / LEASE), os.fspath(folder), machine(), EVERY).holder()
    return f" on {holder}" if holder else ""


def is_locked(folder: Path) -> bool:
    """Whether another process writes into a run folder, on this machine or on another."""
    holder = Lease(LeaseFile(folder / LEASE), os.fspath(folder), machine(), EVERY).holder()
    elsewhere = holder is not None and is_at_work(holder)
    if sys.platform == "win32":
        return elsewhere
    try:
        handle = open_plain(folder / LOCK)
    except OSError:
        return False  # nobody has run anything here, or the file is no lock
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return elsewhere
    finally:
        os.close(handle)
    return elsewhere and holder is not None and holder.machine != machine()


def machine() -> str:
    """Return a text that processes have in common if, and only if, the system's locks hold between them."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return f"{socket.gethostname()} {os.name}"
