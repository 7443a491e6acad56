"""Runs at a URL: while a process works on the copy on this machine, what is finished is uploaded every few seconds."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pruningbench.base.files import default_cache_folder
from pruningbench.errors import PruningBenchError, RemoteError, UsageError
from pruningbench.store.copies import make_room
from pruningbench.store.lease import Lease, LostLeaseError, Repeating, is_at_work
from pruningbench.store.locks import only_process
from pruningbench.store.mirror import READ, Mirror
from pruningbench.store.remote import LeaseObject, RemoteFolder, check_no_cut_url, check_writable, is_url
from pruningbench.store.runfolder import RunFolder

EVERY = 30.0
"""Seconds between two uploads."""
SHORTEST = 1.0
"""Seconds of the shortest interval that may be asked for."""
SHARE = 4
"""An upload is followed by a pause of at least so many times the time it took."""
Say = Callable[[str], None]


class RemoteRun:
    """A run at a URL.

    Args:
        url: of the run folder; see `pruningbench.store.remote.RemoteFolder`.
        every: seconds between two uploads, and between two renewals of the lease.

    Attributes:
        folder: the working copy.
        shown: the URL, for messages.

    Raises:
        UsageError: if the URL or the interval cannot be used.
    """

    def __init__(self, url: str, every: float = EVERY) -> None:
        if not SHORTEST <= every < float("inf"):
            raise UsageError(f"--upload-every {every:g}: must be at least {SHORTEST:g} seconds")
        check_writable(url)
        self.every, self._mirror = every, Mirror(url)
        self.folder, self.shown = RunFolder(self._mirror.folder), self._mirror.remote.shown

    def fill(self, warn: Say) -> None:
        """Bring the working copy up to date; others make room for it if all of them take too much.

        Raises:
            UsageError: if the URL cannot be read, or another process uses the working copy.
        """
        self.folder.lock(warn)
        try:
            self._mirror.fetch(warn)
        finally:
            self.folder.unlock()
        make_room(default_cache_folder(), self._mirror.folder.parent)

    def kept(self, warn: Say) -> Keeping:
        """Return a block in which this process alone writes to the URL; it must hold the lock of the working copy."""
        return Keeping(self._mirror, self.shown, self.every, warn)

    def finish(self, warn: Say) -> None:
        """Upload what has changed since the run, such as figures; if nothing has, the URL is not asked.

        Raises:
            UsageError: as `fill` does, or if another process has begun to run there.
        """
        if not self._mirror.behind():
            return
        self.folder.lock(warn)
        try:
            with self.kept(warn):
                pass
        finally:
            self.folder.unlock()


def remote_run(out: str | os.PathLike[str] | None, every: float) -> RemoteRun | None:
    """Return the run at a URL that `out` means; None if it is a path or not given.

    Raises:
        UsageError: if the URL or the interval cannot be used, or a URL was made a path.
    """
    if isinstance(out, str) and is_url(out):
        return RemoteRun(out, every)
    if out is not None:
        check_no_cut_url(Path(out))
    return None


class Keeping:
    """A block in which a process is the only one that writes to a URL; see `RemoteRun.kept`.

    At its begin, the working copy is brought up to date once more, because another machine may have finished meanwhile.
    During it, two threads renew the lease and upload. At its end, however it ends, the rest is uploaded.
    """

    def __init__(self, mirror: Mirror, where: str, every: float, warn: Say) -> None:
        self._mirror, self._where, self._every, self._warn = mirror, where, every, warn
        self._lease = Lease(LeaseObject(mirror.remote), where, mirror.copy, every)
        self._threads: list[Repeating] = []
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lost, self._failing, self._not_before = "", False, 0.0

    def __enter__(self) -> Self:
        self._lease.take(self._warn, locked=True)
        try:
            self._mirror.fetch(self._warn)
        except BaseException:
            with suppress(RemoteError):
                self._lease.release()
            raise
        self._threads = [Repeating(self._every, self._renew), Repeating(self._every, self._upload)]
        return self

    def _renew(self) -> bool:
        try:
            self._lease.renew()
        except LostLeaseError as error:
            self._lost = str(error)
        except RemoteError as error:
            self._fail(error)
        return not self._lost

    def _upload(self) -> bool:
        if self._lost:
            return False
        begun = time.monotonic()
        if begun < self._not_before:
            return True
        try:
            self._mirror.upload()
            if self._failing:
                self._said.put(f"{self._where}: uploads go on")
            self._failing = False
        except PruningBenchError as error:
            self._fail(error)
        self._not_before = time.monotonic() + SHARE * (time.monotonic() - begun)
        return True

    def _fail(self, error: PruningBenchError) -> None:
        """Have one warning passed on for uploads that fail one after the other."""
        if not self._failing:
            self._said.put(f"{error}; the run continues in {self._mirror.folder}, and uploads are tried again")
        self._failing = True

    def check(self) -> None:
        """Pass on what the threads have to say.

        Raises:
            LostLeaseError: if another process has taken over.
        """
        while not self._said.empty():
            self._warn(self._said.get())
        if self._lost:
            raise LostLeaseError(self._lost)

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            for thread in self._threads:
                thread.stop()
            self.check()
            self._lease.renew()
            self._mirror.upload()
            self._lease.release()
        except PruningBenchError as error:
            why = f"{error}; the rest is in {self._mirror.folder}: run the same command again to upload it"
            if kind is None:
                raise RemoteError(why) from None
            if kind is not LostLeaseError:
                self._warn(why)


def fetched(url: str, *, weights: bool = False) -> Path:
    """Return a copy of a run folder at a URL for reading, without its figures.

    Args:
        url: of the run folder.
        weights: also copy the weights that it may hold.

    Other copies that have not been used for longest are removed if all of them take too much room.

    Raises:
        UsageError: if the URL cannot be used or read.
    """
    mirror = Mirror(url, reading=(*READ, "weights") if weights else READ)
    with only_process(mirror.folder.with_name(f".{mirror.folder.name}.lock"), lambda: None):
        mirror.fetch(lambda _message: None)
    make_room(default_cache_folder(), mirror.folder.parent)
    return mirror.folder


def is_written(url: str) -> bool:
    """Whether a process is running a suite at a URL.

    Raises:
        UsageError: if the URL cannot be used or read.
    """
    remote = RemoteFolder(url)
    holder = Lease(LeaseObject(remote), remote.shown, "", EVERY).holder()
    return holder is not None and is_at_work(holder)
