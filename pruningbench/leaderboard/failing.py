"""The tasks of a board that gave no values."""

from __future__ import annotations

from typing import Any

from pruningbench.leaderboard.measurements import Measurements, row_key
from pruningbench.leaderboard.rows import Failure


def failures(measurements: Measurements) -> tuple[Failure, ...]:
    """List the tasks, and parts of tasks, that failed and were not measured by any other given run."""
    if all(status == "ok" for status in measurements.column("status")):
        return ()
    failed: dict[tuple[Any, ...], Failure] = {}
    succeeded: set[tuple[Any, ...]] = set()
    partly = {(m["run"], m["cell"], m["task"]) for m in measurements if m["status"] == "ok"}
    for m in measurements:
        whole = (*row_key(m), int(m["seed"]), m["task"])
        if m["status"] == "ok":
            succeeded |= {whole, (*whole, m["variant"], ""), (*whole, m["variant"], m["metric"])}
            continue
        # if a task gave some values, list each missing part; no other run makes up for the rest that it never reached
        key: tuple[Any, ...] = whole
        if (m["run"], m["cell"], m["task"]) in partly:
            part = (m["variant"], m["metric"])
            key = (*whole, *(part if any(part) else ("rest", m["run"])))
        lines = str(m["error"] or "").strip().splitlines()
        failed[key] = Failure(
            run=str(m["run"]), model=m["model"], pruner=m["pruner"], recipe=m["recipe"],
            sparsity=float(m["sparsity"]), seed=int(m["seed"]), task=m["task"], status=m["status"],
            error=lines[-1].strip() if lines else "", part=" ".join(filter(None, (m["variant"], m["metric"]))),
        )  # fmt: skip
    return tuple(failure for key, failure in failed.items() if key not in succeeded)
