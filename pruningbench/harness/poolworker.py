"""What a worker process does: it makes its work once, then runs one job after another and sends their events.

This module imports no torch, so that the process has its environment before torch reads it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from pruningbench.base.processes import die_with

READY, EVENT, NOTE, DONE = "ready", "event", "note", "done"


@dataclass(frozen=True)
class Place:
    """Where a worker process runs.

    Attributes:
        threads: number of threads of torch.
        environment: variables that the process sets first.
        memory: share of the memory of its GPU that it may use; 1 for all.
        gpu: number of that GPU, of those that the process sees.
    """

    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)
    memory: float = 1.0
    gpu: int = 0


def serve(connection: Connection, parent: int, place: Place) -> None:
    """Receive a factory of work and then jobs until None arrives; send what they yield."""
    own = os.getpid()
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C reaches only the driver; whatever a job starts can be killed together with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    os.environ.update(place.environment)
    if sys.stderr is not None:
        os.dup2(2, 1)  # standard output belongs to the driver: what jobs print goes to standard error

    def send(kind: str, value: Any = None) -> None:
        if os.getpid() != own:
            os._exit(0)  # a copy of this process, which a component forked and let return into the harness
        # plain pickling: torch's own way of sending tensors shares memory that is gone if this process dies
        connection.send_bytes(pickle.dumps((kind, value)))

    make_work = connection.recv()
    work = make_work(lambda message: send(NOTE, message))
    limit(place)
    send(READY)
    while (job := connection.recv()) is not None:
        for event in work(job):
            send(EVENT, event)
        send(DONE)


def limit(place: Place) -> None:
    """Limit threads and the memory of a shared GPU, in the thread that computes."""
    import torch

    torch.set_num_threads(place.threads)
    if place.memory < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(place.memory, place.gpu)
