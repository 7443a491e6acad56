"""Lists of tasks without values, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pruningbench.base.text import displayable
from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.labels import compact
from pruningbench.leaderboard.rows import Failure

WIDTH = 140
"""Default width of tables and lists, in columns of the terminal."""


def failures(failed: Sequence[Failure], width: int | None = None) -> str:
    """Return a list of failed tasks as plain text; "" for none."""
    if not failed:
        return ""
    from tabulate import tabulate

    pruners = compact(failure.pruner for failure in failed)
    rows = [
        [
            displayable(f.model),
            pruners[f.pruner],
            displayable(f.recipe),
            percent(f.sparsity),
            f.seed,
            displayable(f"{f.task} {f.part}".strip()),
            f.status,
        ]
        for f in failed
    ]
    headers = ["model", "pruner", "recipe", "sparsity", "seed", "task", "status"]
    room = width or WIDTH
    for header, *cells in zip(headers, *rows, strict=True):
        room -= max(len(header) + 2, *(len(str(cell)) for cell in cells)) + 2  # tabulate widens headers by two
    room = max(room, 30)
    for row, failure in zip(rows, failed, strict=True):
        error = displayable(" ".join(failure.error.split()))
        row.append(error if len(error) <= room else f"{error[: room - 1]}…")
    aligned = ["left", "left", "left", "right", "right", "left", "left", "left"]
    return tabulate(rows, headers=[*headers, "error"], tablefmt="simple", disable_numparse=True, colalign=aligned)
