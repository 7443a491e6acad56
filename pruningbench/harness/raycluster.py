"""The executor ``ray``: long-lived processes on the machines of a Ray cluster, or of this machine alone."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pruningbench.contract.executor import Executor
from pruningbench.errors import PruningBenchError, UsageError
from pruningbench.harness.pool import DEAD, STARTUP, Inbox, Pool, threads_of
from pruningbench.harness.poolworker import DONE, READY, Place
from pruningbench.harness.rayguard import RayGuard
from pruningbench.harness.rayworker import RAISED, Server, Station, software, variables

if TYPE_CHECKING:
    import torch

MISSING = "needs Ray, which is not installed: pip install 'pruningbench[ray]'"
SETTINGS = {
    "worker_niceness": 0,
    "health_check_period_ms": 2000,
    "health_check_timeout_ms": 10_000,
    "health_check_failure_threshold": 5,
}
"""Settings of a cluster of this machine alone. Its processes are not put behind all others, as Ray does by default. A
node counts as lost after about a minute of silence, and not because jobs keep all cores busy for some seconds."""
STORE = 128 << 20
"""Bytes of the store of a cluster of this machine alone: events are small, and masks go one by one."""
PATIENCE = 10.0
"""Seconds to wait for an answer from the address of a cluster."""
FRACTION = 10_000
"""Ray divides a GPU into so many parts."""


class RayExecutor(Executor):
    """Run cells in long-lived processes of Ray, each with its share of cores and GPUs.

    Without an address, it starts a cluster on this machine and ends it; with one, it uses that cluster and leaves it
    as it is. Ray decides where a process runs; a process whose node dies is started again where there is room.
    """

    limits_time: ClassVar[bool] = True
    takes_address: ClassVar[bool] = True
    observes_budget: ClassVar[bool] = True

    _local: Path | None = None
    _guard: RayGuard | None = None
    _connected = False
    _gpus = 0.0
    _threads = 1

    @classmethod
    def problem(cls, workers: int) -> str | None:
        """Refuse fewer than one worker, and a machine without Ray."""
        if workers < 1:
            return "at least one worker is needed"
        return None if find_spec("ray") else MISSING

    @property
    def isolated(self) -> bool:
        """Always: the driver only writes."""
        return True

    @property
    def threads_each(self) -> int:
        """Threads of each process; known after `start`."""
        return self._threads

    @property
    def shares_device(self) -> bool:
        """Whether a GPU has several workers; those of CPUs may be on one node."""
        return self.workers > 1 and (self.device == "cpu" or self._share(self.device) < 1)

    def start(self) -> None:
        """Connect to the cluster, or start one here.

        Raises:
            UsageError: if there is no cluster at the address.
        """
        import ray

        if ray.is_initialized():
            return  # the caller's own connection: used, and left as it is
        options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": True}
        if self.address is None:
            self._local = Path(tempfile.mkdtemp(prefix="pb-ray-"))
            self._guard = RayGuard(self._local)
            options |= {
                "address": "local", "include_dashboard": False, "object_store_memory": STORE,
                "_temp_dir": str(self._local), "_system_config": SETTINGS,
            }  # fmt: skip
        else:
            _check_reachable(self.address)
            options["address"] = self.address
        try:
            with _as_it_was():
                ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            self.close()
            where = "on this machine" if self.address is None else f"at {self.address!r}"
            raise UsageError(f"--executor ray: cannot use a Ray cluster {where}: {_first_line(error)}") from None
        self._connected = True

    def resolve_device(self, name: str) -> torch.device:
        """Return the device of each process: what the cluster has, which this machine may lack.

        Raises:
            UsageError: if no node has such a device, or the workers do not fit on the cluster's nodes.
        """
        import ray
        import torch

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._gpus = sum(node.get("GPU", 0) for node in nodes)
        if name == "auto":
            name = "cuda" if self._gpus else "cpu"
        if name not in ("cpu", "cuda"):
            raise UsageError(f"--device {name}: Ray chooses the GPU of each worker; use cpu, cuda or auto")
        if name == "cuda" and not self._gpus:
            raise UsageError("--device cuda: no node of the Ray cluster has a GPU")
        cores = sum(node.get("CPU", 0) for node in nodes)
        own = os.environ.get("OMP_NUM_THREADS", "").isdecimal()
        most = max((int(node.get("CPU", 0)) for node in nodes), default=1)
        self._threads = threads_of(self.workers) if own else max(1, min(int(cores // self.workers), most))
        self._check_room(nodes, self._share(name))
        return torch.device(name)

    def _share(self, device: str) -> float:
        """Return the part of a GPU that each process gets; 0 if it needs none."""
        if device != "cuda":
            return 0.0
        together = max(1, math.ceil(self.workers / self._gpus))  # processes on the fullest GPU
        return math.floor(FRACTION / together) / FRACTION

    def _check_room(self, nodes: Sequence[Mapping[str, float]], gpu: float) -> None:
        """Refuse what Ray would wait for in silence for ever."""
        room = 0
        for node in nodes:
            fits = int(node.get("CPU", 0) // self._threads)
            if gpu:
                fits = min(fits, int(node.get("GPU", 0) + 1e-9) * int(1 / gpu + 1e-9))
            room += fits
        if room >= self.workers:
            return
        need = f"{self._threads} cores" + (f" and {gpu:g} of a GPU" if gpu else "")
        has = ", ".join(f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes) or "nothing"
        raise UsageError(
            f"--executor ray --workers {self.workers}: each worker needs {need}, and the cluster has room for {room} "
            f"of them (its nodes: {has}); use fewer workers, or set OMP_NUM_THREADS to fewer cores for each"
        )

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs, families of jobs together."""
        gpu = self._share(self.device)
        environment = {**variables(), "OMP_NUM_THREADS": str(self._threads)}
        place = Place(self._threads, environment, gpu or 1.0)
        station = Station(place, str(Path.cwd()), tuple(filter(None, sys.path)))
        factory = pickle.dumps(self.make_work)

        def begin(number: int, inbox: Inbox) -> RayWorker:
            return RayWorker(number, factory, station, gpu, inbox)

        yield from Pool(begin, self).run(jobs)

    def close(self) -> None:
        """Leave the cluster; end it if it was started by `start`."""
        import ray

        if self._connected:
            ray.shutdown()
            self._connected = False
        if self._local is not None:
            if self._guard is not None:
                self._guard.dismiss()
            shutil.rmtree(self._local, ignore_errors=True)
            self._local = self._guard = None


class RayWorker:
    """A process of Ray, and a thread that reads what it sends; to the pool it is like a process of this machine.

    Args:
        number: which worker it is, from 0.
        factory: the pickled factory of work.
        station: what the process needs.
        gpu: part of a GPU that it gets.
        inbox: receives (this, kind, value) for all that it sends.
    """

    advice = ""

    def __init__(self, number: int, factory: bytes, station: Station, gpu: float, inbox: Inbox) -> None:
        import ray

        self.number, self._inbox = number, inbox
        self.job: Any = None
        self.ready = self.dead = self.timed_out = self.hopeless = False
        self.killed = ""
        self.heard = self._began = time.monotonic()
        self._host = ""
        # max_restarts=0: a new process is started by the pool, which knows what was lost
        kind = ray.remote(num_cpus=station.place.threads, num_gpus=gpu, max_restarts=0, max_task_retries=0)(Server)
        self._actor = kind.remote(factory, station)
        self._listen(self._begin)

    def give(self, job: Any) -> None:
        """Send it a job."""
        self.job, self.heard = job, time.monotonic()
        content = pickle.dumps(job)
        self._listen(lambda: self._run(content))

    def _listen(self, read: Any) -> None:
        threading.Thread(target=self._until_dead, args=(read,), daemon=True).start()

    def _until_dead(self, read: Any) -> None:
        """Read what the process sends, in a thread of its own, and tell the pool if it dies."""
        import ray

        try:
            read()
        except ray.exceptions.RayActorError as error:
            self._tell(DEAD, self.killed or _fate(error, self._host))
        except Exception as error:  # noqa: BLE001 - what a process of strangers sends, or a node that is gone
            self.hopeless = not self.ready
            self._tell(DEAD, self.killed or f"could not be used: {_first_line(error)}")

    def _begin(self) -> None:
        import ray

        found = ray.get(self._actor.begin.remote())
        self._host = f"{found['host']}, process {found['pid']}"
        here, there = software(), found["software"]
        differing = [
            f"{name} {there.get(name)} instead of {here[name]}" for name in here if there.get(name) != here[name]
        ]
        if differing:
            raise PruningBenchError(f"{found['host']} has {', '.join(differing)}; all nodes need the same versions")
        self._tell(READY, None)

    def _run(self, content: bytes) -> None:
        import ray

        options = {"num_returns": "streaming", "_generator_backpressure_num_objects": 1}
        for reference in self._actor.run.options(**options).remote(content):
            kind, value = ray.get(reference)
            if kind == RAISED:
                raise PruningBenchError(pickle.loads(value))  # noqa: S301 - a process of this run
            self._tell(kind, pickle.loads(value) if kind != DONE else None)  # noqa: S301 - a process of this run

    def _tell(self, kind: str, value: Any) -> None:
        self.heard = time.monotonic()
        self._inbox.put((self, kind, value))

    def look(self, time_limit: float | None) -> None:
        """Kill the process if it has shown no progress for too long, or Ray has found no room for it."""
        if self.dead or self.killed:
            return
        silent = time.monotonic() - self.heard
        if not self.ready and time.monotonic() - self._began > STARTUP:
            self.timed_out = True
            self.kill(f"was not started by Ray within {STARTUP:g} s: the cluster may have no room left for it")
        elif self.job is not None and time_limit is not None and silent > time_limit:
            self.timed_out = True
            self.kill(f"showed no progress for {time_limit:g} s and was killed")

    def kill(self, why: str) -> None:
        """Kill the process."""
        import ray

        self.killed = why
        with suppress(Exception):  # it is gone already, or the cluster is
            ray.kill(self._actor, no_restart=True)

    def stop(self) -> None:
        """End the process, at once if it is at work."""
        self.kill("was stopped")


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens: Ray would try again for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return  # auto, or a name that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--executor ray: cannot use a Ray cluster at {address!r}: {why}") from None


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Start Ray without its reports of usage, which would go out to the internet, and without its handler of SIGTERM.

    The user's own choice about reports stays; without the handler, a termination ends a run as with other executors.
    """
    name = "RAY_USAGE_STATS_ENABLED"
    before, handler = os.environ.get(name), signal.getsignal(signal.SIGTERM)
    os.environ.setdefault(name, "0")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _fate(error: BaseException, host: str) -> str:
    """Say in few words what became of a process; Ray's own message names all that might have."""
    text, where = str(error), f" ({host})" if host else ""
    if "running low on memory" in text:
        return f"was ended by Ray because its node ran low on memory{where}"
    if "its node has died" in text:
        return f"was lost with its node{where}"
    return f"died{where}"


def _first_line(error: BaseException) -> str:
    """Return an error in one line; of what a process of Ray raised, that error and not Ray's report of it."""
    cause = getattr(error, "cause", None)
    error = cause if isinstance(cause, BaseException) else error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = lines[0][:300] if lines else ""
    return told if isinstance(error, PruningBenchError) else f"{type(error).__name__}: {told}"
