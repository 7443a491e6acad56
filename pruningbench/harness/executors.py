"""The executor that needs nothing: one cell after the other in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pruningbench.contract.executor import Executor


class SerialExecutor(Executor):
    """Run one cell after the other in this process."""

    @classmethod
    def problem(cls, workers: int) -> str | None:
        """Refuse more than one worker."""
        return None if workers == 1 else "the serial executor has exactly one"

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Run the jobs in their order."""
        work = self.make_work()
        for job in jobs:
            yield from work(job)
