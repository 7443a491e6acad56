"""Results: combines the journals of runs into one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pruningbench.base.files import expanded
from pruningbench.errors import RunFolderError
from pruningbench.leaderboard.dimensions import dimensions_of
from pruningbench.store.journal import read_journal
from pruningbench.store.marks import read_marks, standing
from pruningbench.store.runfolder import RESULTS, RunFolder

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "suite", "run", "cell", "model", "pruner", "recipe", "sparsity", "sparsity_achieved", "sparsity_total",
    "seed", "task", "variant", "metric", "value", "ci_low", "ci_high", "n", "unit", "higher_is_better",
    "status", "error", "seconds", "peak_memory_mb", "device", "batch_size", "attempts",
    "pruningbench_version", "plugin", "plugin_version", "data_fingerprint", "mark", "limit",
    "chance", "chance_p", "degenerate", "ties", "inapplicable", "dimension",
)  # fmt: skip
DETAILS = ("undefined", "prepare_seconds", "ceiling", "notes", "remarks", "plan", "artifact", "made_of")

RunPath = str | os.PathLike[str]


def load_results(runs: RunPath | Sequence[RunPath], *, details: bool = False) -> pd.DataFrame:
    """Return the measurements of one or more run folders as one table.

    If a task was tried again, the table holds only the last attempt that is still valid. The column ``mark`` says
    what a reader should know about a row, and is "" for most rows: ``stale: ...`` (made from other parts than the
    current ones, and not measured again yet), ``accepted: ...`` (the same, but kept by ``--accept-changed``),
    ``unchecked: ...`` and ``version alone: ...`` (it cannot be checked whether the row is stale). ``limit`` is the
    number of samples of each data set that a rehearsal used, 0 for all. ``dimension`` is the ability that the task
    measures. Reading needs no lock and is possible during a
    run; it sees the finished tasks.

    Args:
        runs: run folders.
        details: add the columns ``undefined`` (number of samples on which the metric is NaN), ``prepare_seconds``
            (time of pruning and training), ``ceiling`` (the value that people reach on the same samples), ``notes``
            (which component changed what it borrowed), ``remarks`` (what is degenerate, and what may help), and
            ``plan``, ``artifact`` and ``made_of`` (the plan key of what was requested, the artifact key of what the
            measurement was made from, and the parts of the latter).

    Returns:
        One row per measurement and one row per failed task, with the columns `COLUMNS`, in the order of the
        journal.

    Raises:
        RunFolderError: if a folder holds no run, or its journal is damaged.
    """
    import pandas as pd

    listed = [runs] if isinstance(runs, (str, os.PathLike)) else list(runs)
    columns = [*COLUMNS, *(DETAILS if details else ())]
    rows = []
    for run in listed:
        folder = expanded(run)
        path = folder / RESULTS
        if not path.is_file():
            raise RunFolderError(f"{folder}: holds no run (there is no {RESULTS}); give the folder of a run")
        records, _ = read_journal(path)
        name = folder.resolve().name
        marks = read_marks(RunFolder(folder).stale)
        rows += [
            {key: _text(value) for key, value in {**vars(record), "run": name, "mark": mark}.items()}
            for record, mark in standing(records, marks)
        ]
    frame = pd.DataFrame(rows, columns=columns)
    stated = frame[["task", "dimension"]].drop_duplicates()
    dimensions = dimensions_of(zip(stated["task"], stated["dimension"], strict=True))
    frame["dimension"] = frame["dimension"].where(frame["dimension"] != "", frame["task"].map(dimensions))
    types = {"value": "float64", "ci_low": "float64", "ci_high": "float64", "sparsity": "float64", "seed": "int64"}
    return frame.astype({**types, "higher_is_better": "object", "n": "int64"})


def _text(value: Any) -> Any:
    """Escape lone surrogates, which come from file names that are not UTF-8, because no table can hold them."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value
