"""What the user sees during a run: plain lines, or a live display on a terminal."""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from pruningbench.base.text import displayable, last_line, span
from pruningbench.cli.common import say
from pruningbench.hookspecs import CellInfo, RunInfo, hookimpl


def make_observer(kind: str | None) -> PlainProgress | None:
    """Return the observer of a kind (by default rich on a terminal, else plain lines), or None for ``none``."""
    if kind is None:
        kind = "rich" if sys.stderr.isatty() else "plain"
    return {"rich": RichProgress, "plain": PlainProgress}[kind]() if kind != "none" else None


class Clock:
    """Estimates the time left from the median over the last cells, because the first cells also train the model."""

    def __init__(self) -> None:
        self.spent: deque[float] = deque(maxlen=16)
        self._starts: dict[str, float] = {}
        self._at_once = 1

    def start(self, cell: str) -> None:
        """Start timing a cell, given by its key."""
        self._starts[cell] = time.monotonic()
        self._at_once = max(self._at_once, len(self._starts))

    def stop(self, cell: str) -> float:
        """Stop timing the cell and return its seconds."""
        self.spent.append(time.monotonic() - self._starts.pop(cell, time.monotonic()))
        return self.spent[-1]

    def left(self, cells: int) -> str:
        """Return how long `cells` more cells will take if they are like the last ones."""
        if len(self.spent) < 3:
            return "time left unknown"
        return f"{span(cells * statistics.median(self.spent) / self._at_once)} left"


class PlainProgress:
    """Prints a line on standard error for each cell."""

    QUIET = 10.0

    def __init__(self) -> None:
        self.cells = self.done = self.failed = self.before = 0
        self.clock = Clock()
        self._last_line_at = 0.0

    @hookimpl
    def pruningbench_run_started(self, run: RunInfo) -> None:
        """Print how much there is to do."""
        self.cells, self.done, self.before = run.cells, run.cells_before, run.cells_before
        resumed = f", {run.cells_before} done before" if run.cells_before else ""
        self.say(f"{run.cells} cells{resumed}; {run.task_runs} task runs to do")

    @hookimpl
    def pruningbench_cell_started(self, cell: CellInfo) -> None:
        """Start the clock."""
        self.clock.start(cell.key)
        self._last_line_at = time.monotonic()

    @hookimpl
    def pruningbench_note(self, message: str) -> None:
        """Print a note if nothing has been printed for a while."""
        if time.monotonic() - self._last_line_at > self.QUIET:
            self.say(f"  {message}")

    @hookimpl
    def pruningbench_task_done(self, cell: CellInfo, task: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Print immediately what went wrong."""
        # a task may have given some values and failed in others: report the first line that is not ok
        first = next((record for record in records if record["status"] != "ok"), records[0])
        if first["status"] != "ok":
            self.say(f"  {first['status']}: {cell.label}, task {task}: {last_line(first['error'])}")

    @hookimpl
    def pruningbench_cell_done(self, cell: CellInfo, ok: bool) -> None:
        """Print what is done, how many cells failed and how long the rest will take."""
        seconds = self.clock.stop(cell.key)
        self.done += 1
        self.failed += not ok
        left = self.clock.left(self.cells - self.done) if self.done < self.cells else "finished"
        width = len(str(self.cells))
        self.say(f"[{self.done:>{width}}/{self.cells}] {cell.label}  {seconds:.1f} s  ({self.failed} failed, {left})")

    @hookimpl
    def pruningbench_warning(self, message: str) -> None:
        """Print a warning."""
        self.say(f"warning: {message}")

    @hookimpl
    def pruningbench_run_done(self) -> None:
        """Do nothing: plain lines need no cleanup."""

    def say(self, line: str) -> None:
        """Write a line to standard error."""
        self._last_line_at = time.monotonic()
        say(displayable(line), err=True)


class RichProgress(PlainProgress):
    """Shows a live bar on a terminal: cells done, cells failed, time left and the current work."""

    def __init__(self) -> None:
        super().__init__()
        self._live: Any = None
        self._bar: Any = None
        self._cell = ""

    @hookimpl
    def pruningbench_run_started(self, run: RunInfo) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._live = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} cells"),
            TextColumn("[red]{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}", style="dim", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._live.start()
        self._bar = self._live.add_task("starting", total=run.cells, completed=run.cells_before, failed=0, left="")
        super().pruningbench_run_started(run)

    @hookimpl
    def pruningbench_cell_started(self, cell: CellInfo) -> None:
        """Show the current cell."""
        super().pruningbench_cell_started(cell)
        self._cell = displayable(cell.label)
        self._update(description=self._cell)

    @hookimpl
    def pruningbench_note(self, message: str) -> None:
        """Show the note after the cell's label."""
        self._update(description=f"{self._cell} — {displayable(message)}")

    @hookimpl
    def pruningbench_cell_done(self, cell: CellInfo, ok: bool) -> None:
        """Advance the bar."""
        self.clock.stop(cell.key)
        self.done += 1
        self.failed += not ok
        left = self.clock.left(self.cells - self.done) if self.done < self.cells else ""
        self._update(completed=self.done, failed=self.failed, left=left)

    @hookimpl
    def pruningbench_run_done(self) -> None:
        """Remove the bar."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        if self._live is None:
            super().say(line)
        else:
            self._live.console.print(displayable(line), markup=False, highlight=False)

    def _update(self, **values: Any) -> None:
        if self._live is not None:
            self._live.update(self._bar, **values)
