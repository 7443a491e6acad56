"""Which suite and which runs the rows of a board come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.leaderboard.rows import RowKey

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RowRuns:
    """Where a row comes from.

    Attributes:
        suite: name of the suite of its last measurement.
        runs: names of the runs that measured it, in the given order.
    """

    suite: str
    runs: tuple[str, ...]


def runs_of_rows(results: pd.DataFrame) -> dict[RowKey, RowRuns]:
    """Return the runs of each model, pruner, recipe and sparsity that has a value."""
    made: dict[RowKey, RowRuns] = {}
    measured = results[results["status"] == "ok"]
    keys = ["model", "pruner", "recipe", "sparsity", "suite", "run"]
    for model, pruner, recipe, sparsity, suite, run in measured[keys].drop_duplicates().itertuples(index=False):
        key = (model, pruner, recipe, float(sparsity))
        before = made.get(key)
        made[key] = RowRuns(suite, tuple(dict.fromkeys([*(before.runs if before else ()), run])))
    return made
