"""Jobs whose process died or was killed: which task is to blame, and what is tried again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from pruningbench.harness.attempts import MOST_CRASHES
from pruningbench.harness.events import CellJob
from pruningbench.store.records import Status
from pruningbench.suite.cells import TaskRun

PREPARE = "prepare"
"""Name of the step in which a cell's model is made."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a lost job.

    Attributes:
        step: the step in which it was lost.
        status, error: for the records of `condemned`.
        condemned: tasks that are not tried again.
        again: the job with the tasks that are left; None if none are left.
    """

    step: str
    status: Status
    error: str
    condemned: tuple[TaskRun, ...]
    again: CellJob | None


class Losses:
    """Follows the jobs of other processes, and decides what becomes of those that are lost.

    A step that loses its process is tried again and is condemned the second time, as for cells that kill the driver's
    own process (`DeathWatch`); a step that takes too long is condemned at once, because trying again would take as
    long. If the model cannot be made, all tasks of its cell are condemned, else only the one at work.
    """

    def __init__(self) -> None:
        self._step: dict[str, str] = {}
        self._job: dict[str, CellJob] = {}
        self._done: dict[str, set[str]] = {}
        self._crashes: Counter[tuple[str, str]] = Counter()

    def began(self, job: CellJob, step: str) -> None:
        """Note that a step of a job begins."""
        self._step[job.cell.key] = step
        self._job[job.cell.key] = job

    def done(self, job: CellJob, task: str) -> None:
        """Note that a task of a job has ended."""
        self._done.setdefault(job.cell.key, set()).add(task)

    def lost(self, job: CellJob, reason: str, *, timed_out: bool) -> Verdict:
        """Decide about a job that was given to a process.

        Args:
            job: as it was given; the process may have added tasks to it.
            reason: what happened to the process.
            timed_out: whether it was killed because a step took too long.
        """
        key = job.cell.key
        step, done = self._step.pop(key, PREPARE), self._done.get(key, set())
        left = tuple(run for run in self._job.get(key, job).tasks if run.label not in done)
        self._crashes[key, step] += 1
        count = self._crashes[key, step]
        guilty = timed_out or count >= MOST_CRASHES
        condemned = tuple(run for run in left if step in (PREPARE, run.label)) if guilty else ()
        gone = done | {run.label for run in condemned}
        tasks = tuple(run for run in left if run.label not in gone)
        again = replace(job, tasks=tasks, before={label: run for label, run in job.before.items() if label not in gone})
        where = f"at step {step!r} of this cell"
        error = f"the process {reason} {where}" if timed_out else f"the process {reason} {count} times in a row {where}"
        return Verdict(step, "timeout" if timed_out else "crashed", error, condemned, again if tasks else None)
