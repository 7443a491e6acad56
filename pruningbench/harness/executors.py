"""The built-in executors, which need nothing else: one cell after another, or several local processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from pruningbench.contract.executor import Executor


class SerialExecutor(Executor):
    """Run one cell after another: in this process, or in one other process if time is limited."""

    limits_time: ClassVar[bool] = True
    observes_budget: ClassVar[bool] = True

    @classmethod
    def problem(cls, workers: int) -> str | None:
        """Refuse more than one worker."""
        if workers == 1:
            return None
        return "the serial executor uses exactly one worker; for several, choose --executor processes"

    @property
    def isolated(self) -> bool:
        """Whether the time is limited: a process cannot kill its own hanging cell and go on."""
        return self.time_limit is not None

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs in order."""
        if self.isolated:
            yield from _in_processes(self, jobs)
            return
        work = self.make_work()
        for job in jobs:
            if self.admits(job):
                yield from work(job)


class ProcessesExecutor(Executor):
    """Run cells in several local processes, each with its share of the cores and of the GPUs."""

    limits_time: ClassVar[bool] = True
    observes_budget: ClassVar[bool] = True

    @classmethod
    def problem(cls, workers: int) -> str | None:
        """Refuse fewer than one worker."""
        return None if workers >= 1 else "at least one worker is needed"

    @classmethod
    def threads(cls, workers: int) -> int:
        """Return the share of the cores of each process, or the number that the user has set."""
        from pruningbench.harness.pool import threads_of

        return threads_of(workers)

    @property
    def isolated(self) -> bool:
        """Always: the driver only writes."""
        return True

    @property
    def shares_device(self) -> bool:
        """Whether a GPU has several workers; those of a CPU always share it."""
        from pruningbench.harness.pool import places

        if self.workers == 1:
            return False
        return self.device == "cpu" or any(place.memory < 1 for place in places(self.workers, self.device))

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs, families of jobs together."""
        yield from _in_processes(self, jobs)


def _in_processes(executor: Executor, jobs: Iterable[Any]) -> Iterator[Any]:
    import pickle

    from pruningbench.harness.pool import Inbox, Pool, WorkerProcess, places

    factory, where = pickle.dumps(executor.make_work), places(executor.workers, executor.device)

    def begin(number: int, inbox: Inbox) -> WorkerProcess:
        return WorkerProcess(number, factory, where[number], inbox)

    yield from Pool(begin, executor).run(jobs)
