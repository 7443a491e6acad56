"""What a process of Ray does: it makes its work once, then runs one job after another and streams their events.

This module imports neither Ray nor torch, so that the process has its environment before torch reads it.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruningbench.base.versions import package_version
from pruningbench.harness.poolworker import DONE, EVENT, NOTE, Place, limit

RAISED = "raised"
"""Kind of the message of a job that ended with an exception, which is a bug of the harness."""
PACKAGES = ("pruningbench", "torch", "torchvision", "timm", "numpy", "captum")
"""Packages that have to be alike on all nodes, because values depend on them."""


@dataclass(frozen=True)
class Station:
    """What a process on another machine needs to be like the driver's.

    Attributes:
        place: threads, variables and memory of a GPU.
        folder: working folder; a node that lacks it stays where it is.
        path: places where Python looks for modules; those that a node lacks are left out.
    """

    place: Place
    folder: str = ""
    path: tuple[str, ...] = field(default=())


def software() -> dict[str, str]:
    """Return the versions that all nodes must share, by name."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for package in PACKAGES:
        found[package] = package_version(package) or "none"
    return found


def variables() -> dict[str, str]:
    """Return the variables of this process that components read."""
    return {name: value for name, value in os.environ.items() if name.startswith("PRUNINGBENCH_")}


class Server:
    """Runs jobs in a process of Ray.

    Jobs run in a thread of their own, so that notes and events leave the process while a job is at work.

    Args:
        factory: the pickled factory of work (`pruningbench.contract.Executor`).
        station: what the process needs.
    """

    def __init__(self, factory: bytes, station: Station) -> None:
        self._own = os.getpid()
        _settle(station)
        self._factory, self._place = factory, station.place
        self._out: queue.SimpleQueue[tuple[str, Any, threading.Event]] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def begin(self) -> dict[str, Any]:
        """Load plugins and make the work; return the versions, the process id and the host.

        Raises:
            PruningBenchError: if the work cannot be made.
        """
        self._thread.start()
        kind, value, _ = self._out.get()
        if kind == RAISED:
            raise value
        host = os.uname().nodename if hasattr(os, "uname") else ""
        return {"software": software(), "pid": self._own, "host": host}

    def run(self, job: bytes) -> Iterator[tuple[str, Any]]:
        """Run a job; yield (kind, value) for all events and notes, and (`DONE`, None) at its end.

        With a backpressure of one object, this goes on after the driver has received what was yielded last.
        """
        self._jobs.put(job)
        while True:
            kind, value, received = self._out.get()
            yield kind, pickle.dumps(value)
            received.set()
            if kind in (DONE, RAISED):
                return

    def _serve(self) -> None:
        """Make the work and run jobs, in the thread of the jobs."""
        try:
            limit(self._place)
            work = pickle.loads(self._factory)(lambda message: self._send(NOTE, message))  # noqa: S301 - the driver's
        except Exception as error:  # noqa: BLE001 - raised again by `begin`, in the thread that Ray listens to
            self._send(RAISED, error)
            return
        self._send(DONE, None)
        while True:
            job = pickle.loads(self._jobs.get())  # noqa: S301 - the driver's
            try:
                for event in work(job):
                    self._send(EVENT, event)
            except Exception as error:  # noqa: BLE001 - a bug of the harness, told by the driver
                self._send(RAISED, f"{type(error).__name__}: {error}")
            else:
                self._send(DONE, None)

    def _send(self, kind: str, value: Any) -> None:
        if os.getpid() != self._own:
            os._exit(0)  # a copy of this process, which a component forked and let return into the harness
        received = threading.Event()
        self._out.put((kind, value, received))
        if kind == EVENT:
            # the driver has to know which step a process was at when it died; what is on its way dies with it
            received.wait()


def _settle(station: Station) -> None:
    """Give the process its environment, before torch is imported."""
    os.environ.update(station.place.environment)
    if station.folder and Path(station.folder).is_dir():
        os.chdir(station.folder)
    sys.path += [entry for entry in station.path if entry not in sys.path and Path(entry).exists()]
    if sys.stderr is not None:
        os.dup2(2, 1)  # standard output belongs to the driver: what jobs print goes to standard error
