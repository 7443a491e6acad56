"""The built-in executor, which needs nothing else: it runs one cell after another in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pruningbench.contract.executor import Executor


class SerialExecutor(Executor):
    """Run one cell after another in this process."""

    @classmethod
    def problem(cls, workers: int) -> str | None:
        """Refuse more than one worker."""
        return None if workers == 1 else "the serial executor uses exactly one worker"

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs in order."""
        work = self.make_work()
        for job in jobs:
            yield from work(job)
