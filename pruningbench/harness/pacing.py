"""What an executor starts, in which order, and how long it waits: from what has been measured so far."""

from __future__ import annotations

from collections.abc import Sequence

from pruningbench.contract.executor import Executor
from pruningbench.harness.budget import Budget, most_informative_first
from pruningbench.harness.driver import Driver
from pruningbench.harness.events import CellJob
from pruningbench.harness.forecast import Forecast, kinds_of
from pruningbench.store.attempts import Attempt


def paced(
    jobs: list[CellJob], executor: Executor, driver: Driver, *, budget: float | None, limited: bool
) -> tuple[list[CellJob], Budget | None]:
    """Let the executor observe the budget, and a time limit where the user gave none and all work is known.

    The limit is for executors that run jobs in other processes anyway: only these can be ended.

    Args:
        jobs: what is left to do.
        executor: what will run it.
        driver: tells what has been measured, and what is being measured.
        budget: seconds that the run may take; None for no limit.
        limited: whether the user has limited the time of a task.

    Returns:
        The jobs in the order to start them, and what observes the budget.
    """
    forecast = Forecast()
    forecast.learn(driver.journal.attempts)
    kinds, unlimited = kinds_of(jobs), not limited and executor.limits_time and executor.isolated

    def learn(attempts: Sequence[Attempt]) -> None:
        forecast.learn(attempts)
        if unlimited:
            executor.time_limit = forecast.patience(kinds)

    driver.learn = learn
    learn(())
    if budget is None:
        return jobs, None
    watched = Budget(budget, forecast)
    executor.admits, executor.in_order = watched.admits, True
    return most_informative_first(jobs), watched
