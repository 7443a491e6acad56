"""Executors: who runs the cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from pruningbench.harness.events import CellJob, Event
from pruningbench.harness.worker import Worker


class Executor(Protocol):
    """Runs cells and tells what happens; results do not depend on which executor ran them."""

    def run(self, jobs: Iterable[CellJob]) -> Iterator[Event]:
        """Run the jobs; the events of one cell come in order, ending with `CellDone`."""
        ...


class SerialExecutor:
    """Runs one cell after the other in this process."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def run(self, jobs: Iterable[CellJob]) -> Iterator[Event]:
        """Run the jobs in their order."""
        for job in jobs:
            yield from self.worker.run(job)
