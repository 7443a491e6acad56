"""Executors: who runs the cells of a suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Work = Callable[[Any], Iterator[Any]]
"""Runs one job and yields its events in order; failures of components are events and are not raised."""


class Executor(ABC):
    """Runs jobs, one per cell, and passes on their events.

    Jobs and events are opaque to an executor and can be pickled. Results do not depend on the executor: it
    decides where and when jobs run, and nothing else. Only the driver, which reads the events, writes files.

    Args:
        make_work: returns the function that runs jobs in the calling process. It can be pickled, and is called once
            in each process that runs jobs, so that models and data are loaded once for all jobs of the process.
        workers: number of processes requested, >= 1.
    """

    def __init__(self, make_work: Callable[[], Work], workers: int) -> None:
        self.make_work, self.workers = make_work, workers

    @classmethod
    def problem(cls, workers: int) -> str | None:  # noqa: ARG003 - subclasses look at it
        """Return why it cannot run here with this many workers, or None; called before anything is written."""
        return None

    @abstractmethod
    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs and yield their events, in order within each job and in any order across jobs."""
