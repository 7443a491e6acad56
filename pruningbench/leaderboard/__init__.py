"""Turns results into rankings, tables and figures.

    boards = build(load_results("runs/first"))
    text = render(boards, "markdown")
    pictures = draw_figures(Path("runs/first"))

No code here refers to a task, metric, pruner or model by name; all names come from the results. pandas,
tabulate and matplotlib are imported when first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruningbench.leaderboard.aggregation import Entry
    from pruningbench.leaderboard.board import build
    from pruningbench.leaderboard.figures import draw_figures
    from pruningbench.leaderboard.formats import FORMATS, render, render_failures
    from pruningbench.leaderboard.rows import Board, Column, Failure, Row

__all__ = [
    "FORMATS",
    "Board",
    "Column",
    "Entry",
    "Failure",
    "Row",
    "build",
    "draw_figures",
    "render",
    "render_failures",
]

_HOMES = {
    "Board": "pruningbench.leaderboard.rows",
    "Column": "pruningbench.leaderboard.rows",
    "Entry": "pruningbench.leaderboard.aggregation",
    "FORMATS": "pruningbench.leaderboard.formats",
    "Failure": "pruningbench.leaderboard.rows",
    "Row": "pruningbench.leaderboard.rows",
    "build": "pruningbench.leaderboard.board",
    "draw_figures": "pruningbench.leaderboard.figures",
    "render": "pruningbench.leaderboard.formats",
    "render_failures": "pruningbench.leaderboard.formats",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that `list` imports none of the parts that plugins register here."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
