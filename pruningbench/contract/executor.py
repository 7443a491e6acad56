"""Executors: who runs the cells of a suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

Work = Callable[[Any], Iterator[Any]]
"""Runs one job and yields its events in order; failures of components are events and are not raised."""


@dataclass(frozen=True)
class JobLost:
    """An executor yields this after the last event of a job whose process ended before the job did.

    The harness decides what becomes of the job: it is tried again, or recorded as crashed or timed out.

    Attributes:
        job: the job.
        reason: what happened to the process, such as ``was killed by SIGSEGV``.
        timed_out: whether the executor ended the process because of `Executor.time_limit`.
    """

    job: Any
    reason: str
    timed_out: bool = False


@dataclass(frozen=True)
class JobNote:
    """An executor may yield this for a progress note of a job that runs in another process."""

    job: Any
    message: str


class Executor(ABC):
    """Runs jobs, one per cell, and passes on their events.

    Jobs and events are opaque to an executor and can be pickled. Results do not depend on the executor: it
    decides where and when jobs run, and nothing else. Only the driver, which reads the events, writes files.

    A job says in ``job.family``, a tuple of texts from coarse to fine, what it shares its work with: jobs with the same
    first text use the same model, and jobs with the same tuple share scores and training. Such jobs run fastest one
    after another in one process.

    Args:
        make_work: returns the function that runs jobs in the calling process. It can be pickled, and is called once
            in each process that runs jobs, so that models and data are loaded once for all jobs of the process. It
            takes an optional function that receives progress notes, in processes other than the driver's.
        workers: number of processes requested, >= 1.

    Attributes:
        time_limit: seconds that a job may run without a sign of progress (an event or a note); its process is then
            killed and the job lost. None for no limit. The harness sets it before `run` if the class `limits_time`.
        device: device on which jobs compute, as text; set by the harness before `run`.
        address: the cluster that the user named; None if none was. Set before `start` if the class `takes_address`.
        admits: asked before a job starts; a job that is not admitted is left out. The harness sets it for runs with a
            budget of time if the class `observes_budget`.
        in_order: whether jobs have to be started in the order that they are given in, families or not.
        limits_time: whether this class observes `time_limit`.
        observes_budget: whether it observes `admits` and `in_order`.
        takes_address: whether this class uses `address`.
    """

    limits_time: ClassVar[bool] = False
    takes_address: ClassVar[bool] = False
    observes_budget: ClassVar[bool] = False
    admits: Callable[[Any], bool] = staticmethod(lambda _job: True)
    in_order: bool = False
    time_limit: float | None = None
    device: str = "cpu"
    address: str | None = None

    def __init__(self, make_work: Callable[..., Work], workers: int) -> None:
        self.make_work, self.workers = make_work, workers

    @classmethod
    def problem(cls, workers: int) -> str | None:  # noqa: ARG003 - subclasses look at it
        """Return why it cannot run here with this many workers, or None; called before anything is written."""
        return None

    @classmethod
    def threads(cls, workers: int) -> int | None:  # noqa: ARG003 - subclasses look at it
        """Return how many threads each of so many workers computes with; None if as many as this process."""
        return None

    @property
    def isolated(self) -> bool:
        """Whether no job runs in the driver's process, so that the driver outlives whatever a job does."""
        return False

    @property
    def threads_each(self) -> int | None:
        """Threads that each worker computes with, for the record; asked for after `resolve_device`."""
        return self.threads(self.workers)

    @property
    def shares_device(self) -> bool:
        """Whether several workers compute on one device at a time, so that measured times are not those of all of it.

        Asked for after `resolve_device`.
        """
        return False

    def start(self) -> None:
        """Get ready, for example connect to a cluster; called once, before anything is written.

        Raises:
            UsageError: if that is not possible, in one line.
        """

    def resolve_device(self, name: str) -> torch.device:
        """Return the device that ``--device`` stands for where jobs run, which need not be this machine.

        Raises:
            UsageError: if there is no such device, or no room for the workers.
        """
        from pruningbench.base.machine import resolve_device

        return resolve_device(name)

    def close(self) -> None:
        """Release what `start` took; called once after it, whatever has happened."""

    @abstractmethod
    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs and yield their events, in order within each job and in any order across jobs.

        A job that loses its process yields `JobLost` instead of its remaining events.
        """
