"""Executors: who runs the cells of a suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Work = Callable[[Any], Iterator[Any]]
"""Runs one job and yields what happens, in order; failures of components are among it, not raised."""


class Executor(ABC):
    """Runs jobs, a cell each, and passes on what happens.

    Jobs and events are opaque to an executor and can be pickled. Results do not depend on the executor: it
    decides where and when jobs run, and nothing else. The driver, which reads the events, alone writes files.

    Args:
        make_work: returns what runs jobs in the process that calls it; it can be pickled, and is called once in
            each process that shall run jobs, because models and data are then loaded once for all of its jobs.
        workers: processes asked for, >= 1.
    """

    def __init__(self, make_work: Callable[[], Work], workers: int) -> None:
        self.make_work, self.workers = make_work, workers

    @classmethod
    def problem(cls, workers: int) -> str | None:  # noqa: ARG003 - subclasses look at it
        """Return why it cannot run here with so many workers, or None; asked before anything is written."""
        return None

    @abstractmethod
    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs and yield their events; those of one job in their order, those of several in any."""
