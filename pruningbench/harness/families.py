"""Which process runs which job: families of jobs stay together, and no process idles while jobs are left."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

Family = tuple[str, ...]


class Families:
    """The jobs that have not been started, by family.

    A process works through one family after another, because their jobs share scores and training; it prefers the
    family that has most in common with its last one, and otherwise a model that no other process has loaded. If no
    whole family is left, it takes the last job of the family with the most jobs left: what they share is then made
    once, under a lock, by whichever process needs it first.

    Args:
        jobs: in the order of the plan; each may have an attribute `family` (`pruningbench.contract.Executor`).
        in_order: whether to hand out the jobs in their order, whatever their families.
    """

    def __init__(self, jobs: Iterable[Any], *, in_order: bool = False) -> None:
        self._in_order = in_order
        self._left: dict[Family, deque[Any]] = {}
        self._owner: dict[Family, int] = {}
        self._last: dict[int, Family] = {}
        for job in jobs:
            family = () if in_order else tuple(getattr(job, "family", ()))
            self._left.setdefault(family, deque()).append(job)

    def __len__(self) -> int:
        """Return the number of jobs left."""
        return sum(map(len, self._left.values()))

    def take(self, worker: int) -> Any:
        """Return the next job of a worker, counted from 0; None if no job is left."""
        family = self._last.get(worker)
        if family not in self._left or self._owner.get(family) != worker:
            family = self._choose(worker)
        if family is None:
            return None
        owned = self._owner.setdefault(family, worker) == worker
        jobs = self._left[family]
        job = jobs.popleft() if owned or self._in_order else jobs.pop()
        if not jobs:
            del self._left[family]
        self._last[worker] = family
        return job

    def _choose(self, worker: int) -> Family | None:
        free = [family for family in self._left if family not in self._owner]
        if not free:
            return max(self._left, key=lambda family: len(self._left[family]), default=None)
        mine = self._last.get(worker, ())
        elsewhere = [family[:1] for other, family in self._last.items() if other != worker]

        def preference(family: Family) -> tuple[int, int]:
            return -_in_common(family, mine), elsewhere.count(family[:1])

        return min(free, key=preference)  # the first in the order of the plan, if several are as good


def _in_common(one: Family, other: Family) -> int:
    """Return how many texts two families have in common, from the left."""
    count = 0
    for mine, others in zip(one, other, strict=False):
        if mine != others:
            break
        count += 1
    return count
