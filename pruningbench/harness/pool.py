"""A pool of local worker processes that outlives their deaths."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from typing import Any, Protocol

from pruningbench.base.processes import describe_exit
from pruningbench.contract.executor import Executor, JobLost, JobNote
from pruningbench.errors import PruningBenchError
from pruningbench.harness.families import Families
from pruningbench.harness.poolworker import DONE, EVENT, NOTE, READY, Place, serve

STARTUP = 300.0
"""Seconds that a process may take to load the plugins."""
POLL = 0.1
"""Seconds between two looks at the processes, when none of them sends anything."""
DRAIN = 5.0
"""Seconds to wait for the last events of a dead process; a process that it left behind may keep their pipe open."""
MOST_EARLY = 5
"""So many processes in a row may be lost before they are ready, for example with their machines."""
DEAD = "dead"

Inbox = queue.SimpleQueue[tuple["Member", str, Any]]


class Member(Protocol):
    """A process of a pool, on this machine or another.

    Attributes:
        number: which one it is, from 0.
        job: what it is at work on, or None.
        ready: whether it has loaded the plugins.
        dead: whether the pool has heard of its death.
        timed_out: whether it was killed because a job, or getting ready, took too long.
        advice: what else to say if it dies before it is ready.
        hopeless: whether another one would not get ready either, if it dies before it is ready.
    """

    advice: str
    hopeless: bool
    number: int
    job: Any
    ready: bool
    dead: bool
    timed_out: bool

    def give(self, job: Any) -> None:
        """Send it a job."""

    def look(self, time_limit: float | None) -> None:
        """Notice a death, and kill it if it has shown no progress for too long."""

    def stop(self) -> None:
        """End it."""


Begin = Callable[[int, Inbox], Member]
"""Starts a process by its number; it sends (itself, kind, value) to the inbox."""


class WorkerProcess:
    """A worker process of this machine, and a thread that reads what it sends.

    Args:
        number: which worker it is, from 0.
        factory: the pickled factory of work.
        place: where it runs.
        inbox: receives (this, kind, value) for all that it sends.
    """

    advice = (
        " (its message is above); a script that runs a suite in several processes needs `if __name__ == '__main__':` "
        "around the call"
    )
    hopeless = True  # nothing but the work itself ends a process of this machine before it is ready

    def __init__(self, number: int, factory: bytes, place: Place, inbox: Inbox) -> None:
        self.number, self._inbox = number, inbox
        self.job: Any = None
        self.ready = self.dead = False
        self.killed = ""  # why this process was killed by the pool
        self.timed_out = False
        self.heard = time.monotonic()
        spawn = get_context("spawn")  # a fork of a process that has used torch's threads or a GPU may hang
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(theirs, os.getpid(), place))
        self._process.start()
        theirs.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send(factory)

    def give(self, job: Any) -> None:
        """Send it a job."""
        self.job, self.heard = job, time.monotonic()
        self._send(pickle.dumps(job))

    def _send(self, content: bytes) -> None:
        with suppress(OSError):  # it has died: `look` will notice
            self._connection.send_bytes(content)

    def _read(self) -> None:
        """Pass on what the process sends, in a thread of its own."""
        try:
            while True:
                kind, value = self._connection.recv()
                self.heard = time.monotonic()
                self._inbox.put((self, kind, value))
        except (EOFError, OSError):
            return
        except Exception as error:  # noqa: BLE001 - an event of a third-party component that cannot be read here
            self.kill(f"sent an event that cannot be read ({type(error).__name__}: {error})")

    def look(self, time_limit: float | None) -> None:
        """Notice a death, kill the process if it has shown no progress for too long, and report either once."""
        if self.dead:
            return
        limit = time_limit if self.job is not None else None if self.ready else STARTUP
        if limit is not None and not self.killed and time.monotonic() - self.heard > limit:
            self.timed_out = self.ready
            self.kill(f"showed no progress for {limit:g} s and was killed")
        if not self._process.is_alive():
            self._reader.join(DRAIN)
            self.dead = True
            self._inbox.put((self, DEAD, self.killed or describe_exit(self._process.exitcode)))

    def kill(self, why: str) -> None:
        """Kill the process and whatever it has started."""
        self.killed = why
        pid = self._process.pid
        if pid is not None and hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):  # it has no group of its own yet, or is gone
                os.killpg(pid, signal.SIGKILL)
        self._process.kill()

    def stop(self) -> None:
        """End the process, at once if it is at work, and whatever its jobs have started."""
        if self.ready and self.job is None:
            self._send(pickle.dumps(None))
            self._process.join(1.0)
        self.kill("was stopped")
        self._process.join(10.0)


class Pool:
    """Runs jobs in processes; each keeps its model and data for all of its jobs.

    Args:
        begin: starts a process.
        executor: says how many processes, which jobs to start, and how long they may be silent.
    """

    def __init__(self, begin: Begin, executor: Executor) -> None:
        self._begin, self._executor = begin, executor
        self._inbox: Inbox = queue.SimpleQueue()
        self._workers: list[Member] = []
        self._early = 0

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs and yield their events, notes and losses; a process that dies costs only its job.

        Raises:
            PruningBenchError: if a process dies before it can run anything.
        """
        left = Families(jobs, in_order=self._executor.in_order)
        try:
            for number in range(min(self._executor.workers, len(left))):
                self._workers.append(self._begin(number, self._inbox))
            while left or any(worker.job is not None for worker in self._workers):
                for worker in self._workers:
                    if worker.ready and worker.job is None and not worker.dead:
                        job = self._next_job(left, worker.number)
                        if job is not None:
                            worker.give(job)
                yield from self._next()
                for worker in self._workers:
                    worker.look(self._executor.time_limit)
        finally:
            for worker in self._workers:
                worker.stop()

    def _next_job(self, left: Families, number: int) -> Any:
        """Return the next job that may be started; None if there is none."""
        while left:
            job = left.take(number)
            if self._executor.admits(job):
                return job
        return None

    def _next(self) -> Iterator[Any]:
        """Wait a moment for a message, and yield what it means for the driver."""
        try:
            worker, kind, value = self._inbox.get(timeout=POLL)
        except queue.Empty:
            return
        if kind == READY:
            worker.ready, self._early = True, 0
        elif kind == EVENT:
            yield value
        elif kind == NOTE and worker.job is not None:
            yield JobNote(worker.job, value)
        elif kind == DONE:
            worker.job = None
        elif kind == DEAD:
            yield from self._bury(worker, value)

    def _bury(self, worker: Member, reason: str) -> Iterator[JobLost]:
        worker.dead = True
        if not worker.ready:
            self._early += 1
            alone = not any(other.ready and not other.dead for other in self._workers)
            if worker.hopeless or self._early > MOST_EARLY or (alone and worker.timed_out):
                raise PruningBenchError(f"a worker process {reason} before it could run anything{worker.advice}")
        lost = None if worker.job is None else JobLost(worker.job, reason, worker.timed_out)
        self._workers[worker.number] = self._begin(worker.number, self._inbox)
        if lost is not None:
            yield lost


def places(workers: int, device: str) -> list[Place]:
    """Return where each of `workers` processes runs: threads are divided, and so are GPUs or shares of them.

    Args:
        workers: number of processes, >= 1.
        device: ``cuda`` for all GPUs, ``cuda:N`` for one of them, or another device. Of all GPUs, each process sees its
            own: several, if there are more than processes, for trainings that use several.
    """
    threads = threads_of(workers)
    environment = {"OMP_NUM_THREADS": str(threads)}
    if device != "cuda":
        share = 1 / workers if device.startswith("cuda") else 1.0
        number = device.partition("cuda:")[2]
        return [Place(threads, environment, share, int(number or 0))] * workers
    gpus = _gpus()
    most = -(-workers // max(1, len(gpus)))  # processes on the fullest GPU
    own = [gpus[number::workers] or [gpus[number % len(gpus)]] for number in range(workers)]
    return [Place(threads, {**environment, "CUDA_VISIBLE_DEVICES": ",".join(some)}, 1 / most) for some in own]


def threads_of(workers: int) -> int:
    """Return the threads of each of so many processes: their share of the cores, or OMP_NUM_THREADS if it is set."""
    own = os.environ.get("OMP_NUM_THREADS", "")
    return int(own) if own.isdecimal() and int(own) else max(1, _cores() // workers)


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """Return the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return [name.strip() for name in visible.split(",")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
