"""Progress of a run in a notebook: one bar, and the lines that a person should read below it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from pruningbench.base.html import html_text
from pruningbench.base.text import last_line
from pruningbench.hookspecs import CellInfo, RunInfo, hookimpl

MOST_LINES = 20
"""Most lines below the bar."""


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, without importing anything."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


class NotebookProgress:
    """Shows a bar that is updated in place: cells done, cells failed, and the current work."""

    def __init__(self) -> None:
        self.cells = self.done = self.failed = 0
        self.now = "starting"
        self.lines: list[str] = []
        self._handle: Any = None

    @hookimpl
    def pruningbench_run_started(self, run: RunInfo) -> None:
        """Show the bar."""
        self.cells, self.done = run.cells, run.cells_before
        self._show()

    @hookimpl
    def pruningbench_cell_started(self, cell: CellInfo) -> None:
        """Show the current cell."""
        self.now = cell.label
        self._show()

    @hookimpl
    def pruningbench_note(self, message: str) -> None:
        """Show the note instead of the cell's label."""
        self.now = message
        self._show()

    @hookimpl
    def pruningbench_task_done(self, cell: CellInfo, task: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Show what went wrong."""
        first = next((record for record in records if record["status"] != "ok"), None)
        if first is not None:
            self._say(f"{first['status']}: {cell.label}, task {task}: {last_line(first['error'])}")

    @hookimpl
    def pruningbench_cell_done(self, cell: CellInfo, ok: bool) -> None:
        """Advance the bar."""
        self.done += 1
        self.failed += not ok
        self._show()

    @hookimpl
    def pruningbench_warning(self, message: str) -> None:
        """Show a warning."""
        self._say(f"warning: {message}")

    @hookimpl
    def pruningbench_run_done(self, ok: bool) -> None:
        """Show that the run has ended."""
        self.now = "finished" if ok else "ended"
        self._show()

    def html(self) -> str:
        """Return the bar and the lines below it; all text is escaped."""
        failed = f", {self.failed} failed" if self.failed else ""
        bar = f'<progress value="{self.done}" max="{max(self.cells, 1)}"></progress>'
        shown = "".join(f"<p>{html_text(line)}</p>" for line in self.lines[-MOST_LINES:])
        return f"<p>{bar} {self.done}/{self.cells} cells{failed} {html_text(self.now)}</p>{shown}"

    def _say(self, line: str) -> None:
        self.lines.append(line)
        self._show()

    def _show(self) -> None:
        display: Any = import_module("IPython.display")
        content = display.HTML(self.html())
        if self._handle is None:
            self._handle = display.display(content, display_id=True)
        else:
            self._handle.update(content)
