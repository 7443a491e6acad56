"""From results to what people read: rankings, tables and figures.

    boards = build(load_results("runs/first"))
    text = render(boards, "markdown")
    pictures = draw_figures(Path("runs/first"))

Nothing here knows a task, metric, pruner or model by name: all comes from the results. pandas,
tabulate and matplotlib are imported when first needed.
"""

from __future__ import annotations

from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.board import build
from pruningbench.leaderboard.figures import draw_figures
from pruningbench.leaderboard.render import FORMATS, render, render_failures
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
