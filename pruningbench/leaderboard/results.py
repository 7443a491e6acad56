"""Results: combines the journals of runs into one table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pruningbench.leaderboard.dimensions import dimensions_of
from pruningbench.leaderboard.measurements import Measurements
from pruningbench.store.marks import read_marks
from pruningbench.store.origins import Origin, origins
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.table import FLOATS, TEXTS, WHOLE, read_table, whole_characters

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

COLUMNS = (
    "suite", "run", "cell", "model", "pruner", "recipe", "sparsity", "sparsity_achieved", "sparsity_total",
    "seed", "task", "variant", "metric", "value", "ci_low", "ci_high", "n", "unit", "higher_is_better",
    "status", "error", "seconds", "peak_memory_mb", "device", "batch_size", "attempts",
    "pruningbench_version", "plugin", "plugin_version", "data_fingerprint", "mark", "limit",
    "chance", "chance_p", "degenerate", "ties", "inapplicable", "dimension", "trust",
)  # fmt: skip
DETAILS = ("undefined", "prepare_seconds", "ceiling", "notes", "remarks", "plan", "artifact", "made_of", "revision")

OWN = ("run", "mark", "trust", "revision")
"""Columns of text that are not in the journal."""

RunPath = str | os.PathLike[str]


def load_results(runs: RunPath | Sequence[RunPath], *, details: bool = False) -> pd.DataFrame:
    """Return the measurements of one or more runs as one table.

    If a task was tried again, the table holds only the last attempt that is still valid. The column ``mark`` says
    what a reader should know about a row, and is "" for most rows: ``stale: ...`` (made from other parts than the
    current ones, and not measured again yet), ``accepted: ...`` (the same, but kept by ``--accept-changed``),
    ``unchecked: ...`` and ``version alone: ...`` (it cannot be checked whether the row is stale). ``limit`` is the
    number of samples of each data set that a rehearsal used, 0 for all. ``dimension`` is the ability that the task
    measures. ``trust`` is "" for a run folder; for a submission it says whether ``pruningbench verify`` has checked it:
    ``self-reported`` (it has not), ``checked``, ``re-run (n of m cells)`` or ``failed verification``. Reading needs no
    lock and is possible during a run; it sees the finished tasks.

    Args:
        runs: run folders, submission files, folders of submissions, or other sources (`pruningbench.store.origins`).
        details: add the columns ``undefined`` (number of samples on which the metric is NaN), ``prepare_seconds``
            (time of pruning and training), ``ceiling`` (the value that people reach on the same samples), ``notes``
            (which component changed what it borrowed), ``remarks`` (what is degenerate, and what may help), and
            ``plan``, ``artifact`` and ``made_of`` (the plan key of what was requested, the artifact key of what the
            measurement was made from, and the parts of the latter), and ``revision`` (the commit of published results,
            "" for files on this machine).

    Returns:
        One row per measurement and one row per failed task, with the columns `COLUMNS`, in the order of the
        journal.

    Raises:
        UsageError: if a source holds no run, is no submission, or is damaged.
    """
    columns = [*COLUMNS, *(DETAILS if details else ())]
    return _frame([_table(origin, columns) for origin in origins(runs)], columns)


def load_measurements(runs: RunPath | Sequence[RunPath]) -> Measurements:
    """Return what `load_results` does with details, without a table of pandas, whose import takes a third of a second.

    Raises:
        UsageError: as `load_results` does.
    """
    columns = [*COLUMNS, *DETAILS]
    joined = _joined([_table(origin, columns) for origin in origins(runs)], columns)
    lists = {name: whole.tolist() for name, whole in joined}
    return Measurements(lists, range(len(lists["mark"])))


def _table(origin: Origin, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the columns of a run."""
    import numpy as np

    folder = RunFolder(origin.folder)
    own = {"run": whole_characters(origin.run), "trust": origin.trust, "revision": origin.revision}
    stored = [name for name in columns if name not in own]
    table = read_table(folder.results, stored, read_marks(folder.stale))
    rows = len(table["mark"])
    return {**table, **{name: np.full(rows, text, dtype=object) for name, text in own.items()}}


def _frame(tables: Sequence[dict[str, NDArray[Any]]], columns: Sequence[str]) -> pd.DataFrame:
    """Return one table of all runs."""
    import pandas as pd

    joined = {
        name: pd.Series(whole, dtype=_text_dtype() if name in (*TEXTS, *OWN) else _dtype(name))
        for name, whole in _joined(tables, columns)
    }
    return pd.DataFrame(joined, columns=list(columns), copy=False)


def _joined(tables: Sequence[dict[str, NDArray[Any]]], columns: Sequence[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield each column of all runs; the columns of `tables` are taken out of them one by one, to save memory."""
    import numpy as np

    tasks = np.empty(0, dtype=object)
    for name in columns:
        pieces = [table.pop(name) for table in tables]
        if len(pieces) == 1:
            (whole,) = pieces
        else:
            whole = np.concatenate(pieces) if pieces else np.empty(0, _dtype(name))
        if name == "task":
            tasks = whole
        if name == "dimension":
            whole = _completed(tasks, whole)
        yield name, whole


def _completed(tasks: NDArray[Any], dimensions: NDArray[Any]) -> NDArray[Any]:
    """Return dimensions, with that of the task where none is stated."""
    import numpy as np

    missing = dimensions == ""
    if missing.any():
        of_task = dimensions_of(dict.fromkeys(zip(tasks, dimensions, strict=True)))
        dimensions[missing] = np.array([of_task[task] for task in tasks[missing]], dtype=object)
    return dimensions


def _dtype(name: str) -> Any:
    return "float64" if name in FLOATS else "int64" if name in WHOLE else "object"


def _text_dtype() -> Any:
    """Return the dtype that pandas gives to text, stored as shared Python strings: equal texts take memory once."""
    import numpy as np
    import pandas as pd

    if str(pd.Series(["text"]).dtype) == "object":  # before pandas 3
        return "object"
    return pd.StringDtype("python", na_value=np.nan)
