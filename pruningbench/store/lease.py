"""Leases: a small file beside a run says who writes it, for machines that share no lock.

A lease names its holder's host, process and time, and is written again every few seconds. Who finds another one's lease
waits for it to be written again. If that happens, the other is at work; if not, the lease is taken over. So nothing
depends on the clocks of two machines, and a machine that was lost delays its successor, but never stops it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from pruningbench.base.reading import one_line
from pruningbench.errors import RunFolderError

LEASE = ".driver.json"
"""Name of the file."""
PATIENCE = 2.5
"""How many times the interval between two renewals a silent lease is watched before it is taken over."""
ABANDONED = 3600.0
"""Seconds since the last renewal, by the clocks of both machines, after which nobody waits for a lease."""
LONGEST_INTERVAL = 600.0
LARGEST = 4096
"""Bytes of the largest lease that is read."""


class LostLeaseError(RunFolderError):
    """Another process has taken the lease over: this one must not write any more."""


class Place(Protocol):
    """Where a lease is kept."""

    def read(self) -> bytes | None:
        """Return the content, of at most `LARGEST` bytes; None if there is none."""

    def create(self, content: bytes) -> bool:
        """Write the content if there is none yet; return whether this process was the one to do so."""

    def write(self, content: bytes) -> None:
        """Replace the content."""

    def remove(self) -> None:
        """Remove the content, if there is any."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        owner: a random text for each holder.
        machine: within this, a lock of the operating system tells who may write.
        host, pid: name of the machine and number of the process, for people.
        since, renewed: when the lease was taken and last renewed, in seconds since 1970, by the holder's clock.
        every: seconds between two renewals.
    """

    owner: str
    machine: str
    host: str
    pid: int
    since: float
    renewed: float
    every: float

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid}, since {clock(self.since)})"


class Lease:
    """The right of one process to write a run.

    Args:
        place: where the lease is kept.
        where: the run, for messages.
        machine: see `Holder`.
        every: seconds between two calls of `renew`.
    """

    def __init__(self, place: Place, where: str, machine: str, every: float) -> None:
        self._place, self._where = place, where
        self._own = Holder(uuid.uuid4().hex, machine, socket.gethostname(), os.getpid(), 0, 0, every)
        self._renewing = threading.Lock()

    def holder(self) -> Holder | None:
        """Return who holds the lease; None if nobody does, or if it cannot be read."""
        return self._read()[1]

    def take(self, warn: Callable[[str], None], *, locked: bool) -> None:
        """Take the lease; if another process holds it, find out whether that one is still at work.

        Args:
            warn: receives a line if there is something to wait for, and if a silent lease is taken over.
            locked: a lock of the system has shown that no other process of this machine is at work, so that a lease
                of this machine is taken over at once.

        Raises:
            RunFolderError: if another process is at work; the message names its host and when it began.
        """
        now = time.time()
        content = self._renewed(now, now)
        seen, holder = self._read()
        if seen is None:
            if self._place.create(content):
                return
            seen, holder = self._read()
        if holder is not None and not (locked and holder.machine == self._own.machine):
            self._watch(seen, holder, warn)
        self._place.remove()
        if not self._place.create(content):
            other = self.holder()
            raise self._busy(other) if other else RunFolderError(f"{self._where}: somebody else has just taken it")

    def _watch(self, seen: bytes | None, holder: Holder, warn: Callable[[str], None]) -> None:
        """Return if the lease stays as it is for long enough; raise if it is renewed."""
        silent = f"{self._where}: {holder} has given no sign of life since {clock(holder.renewed)}"
        if time.time() - holder.renewed < ABANDONED:
            patience = PATIENCE * holder.every
            warn(
                f"{self._where}: {holder} is running this suite here; waiting up to {patience:.0f} s for a sign of life"
            )
            end = time.monotonic() + patience
            while time.monotonic() < end:
                time.sleep(min(holder.every / 8, 1.0))
                content, other = self._read()
                if content is None:
                    return  # it has ended
                if content != seen and other is not None:
                    raise self._busy(other)
        warn(f"{silent}: taking over")

    def _busy(self, holder: Holder) -> RunFolderError:
        return RunFolderError(
            f"{self._where}: {holder}, last sign of life {clock(holder.renewed)}, is running this suite here; wait for "
            "it, or choose another --out"
        )

    def renew(self) -> None:
        """Say that this process is still at work.

        Raises:
            LostLeaseError: if another process has taken over.
        """
        with self._renewing:
            holder = self.holder()
            if holder is not None and holder.owner != self._own.owner:
                raise LostLeaseError(
                    f"{self._where}: {holder} has taken over, because this process gave no sign of life for a while; "
                    "finished tasks that are there are safe, and this process stops"
                )
            self._place.write(self._renewed(self._own.since, time.time()))

    def release(self) -> None:
        """Give the lease up, unless another process has taken it over."""
        with self._renewing:
            holder = self.holder()
            if holder is not None and holder.owner == self._own.owner:
                self._place.remove()

    def _renewed(self, since: float, renewed: float) -> bytes:
        self._own = Holder(**{**asdict(self._own), "since": since, "renewed": renewed})
        return json.dumps(asdict(self._own)).encode()

    def _read(self) -> tuple[bytes | None, Holder | None]:
        """Return the content and the holder in it; look again if the content is just being written."""
        for pause in (0.1, 0.2, 0.4, 0.0):
            content = self._place.read()
            holder = None if content is None else parse_holder(content)
            if content is None or holder is not None:
                return content, holder
            time.sleep(pause)
        return content, None


def parse_holder(content: bytes) -> Holder | None:
    """Return the holder that a lease names; None if the content is no lease."""
    try:
        found = json.loads(content)
        return Holder(
            str(found["owner"]), str(found["machine"]), one_line(found["host"], 80), int(found["pid"]),
            float(found["since"]), float(found["renewed"]), min(max(float(found["every"]), 0.01), LONGEST_INTERVAL),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def is_at_work(holder: Holder) -> bool:
    """Whether a holder has renewed its lease lately, by the clocks of both machines."""
    return abs(time.time() - holder.renewed) < PATIENCE * holder.every


def clock(seconds: float) -> str:
    """Return a time for people: local, with its offset from UTC."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


class Repeating:
    """Calls a function every few seconds, in a thread, until it is stopped.

    Args:
        every: seconds from the end of a call to the next.
        work: the function; it handles its errors, and returns whether to go on.
    """

    def __init__(self, every: float, work: Callable[[], bool]) -> None:
        self._every, self._work = every, work
        self._end = threading.Event()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._repeat, daemon=True, name="pruningbench-repeating")
        self._thread.start()

    def _repeat(self) -> None:
        while not self._end.wait(self._every):
            if not self._work():
                return

    def stop(self) -> None:
        """Wait for a call that is going on, and make no other."""
        self._end.set()
        if self._process == os.getpid():  # a fork has no such thread
            self._thread.join()
