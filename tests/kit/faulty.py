"""Runs of the command line that are disturbed from outside, and what has to be left of them."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kit.commands import COMMAND, MAIN, Process, start_python
from kit.toysuite import toy_environment
from pruningbench.leaderboard.results import load_results
from pruningbench.store.journal import read_journal

CELLS = 61
SUITE = """\
name: faults
models: [toy-net]
pruners: [toy-pruner, {{use: toy-pruner, allocation: uniform}}]
sparsities: [0, .03, .06, .09, .12, .15, .18, .21, .24, .27, .3, .33, .36, .39, .42, .45, .48, .51, .54, .57, .6, .63,
             .66, .69, .72, .75, .78, .81, .84, .87, .9]
tasks:
  - {{use: toy-fault, data: {{use: toy-data, split: test}}, {fields}}}
metrics: [toy-margin]
"""
EXECUTORS = {
    "serial": (),
    "serial with a limit": ("--task-timeout", "30"),
    "processes": ("--executor", "processes", "--workers", "2"),
    "ray": ("--executor", "ray", "--workers", "2"),
}
VARYING = ["run", "seconds", "peak_memory_mb"]
_CAPBSET_DROP, _DAC_OVERRIDE = 24, 1


def comparable(folder: Path) -> pd.DataFrame:
    """Return all that has to be equal between a disturbed run and one that was not."""
    table = load_results(folder).drop(columns=VARYING)
    return table.sort_values(["cell", "task", "variant", "metric"], ignore_index=True)


def respect_permissions() -> None:
    """Let a process of root obey the permissions of files, as those of others do."""
    ctypes.CDLL(None).prctl(_CAPBSET_DROP, _DAC_OVERRIDE, 0, 0, 0)


def small_files(most: int) -> Callable[[], None]:
    """Let writing fail behind so many bytes of a file, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@dataclass
class Runs:
    """Runs of one suite in one folder.

    Attributes:
        place: working folder of the processes.
        suite: the suite's file.
        options: of ``run``.
    """

    place: Path
    suite: Path
    options: tuple[str, ...]

    @property
    def journal(self) -> Path:
        return self.place / "run" / "results.jsonl"

    def start(self, *more: str, before: Callable[[], None] | None = None) -> Process:
        """Begin or continue the run."""
        command = ["run", str(self.suite), "--device", "cpu", "--out", "run", *self.options, *more]
        with (self.place / "said").open("w") as said:
            if before is None:
                output = said.fileno()
                return start_python(MAIN, *command, cwd=self.place, env=toy_environment(), out=output, err=output)
            return subprocess.Popen([*COMMAND, *command], cwd=self.place, env=toy_environment(), stdout=said, stderr=said,
                                    text=True, preexec_fn=before)  # fmt: skip

    def finish(self, *more: str, before: Callable[[], None] | None = None) -> tuple[int, str]:
        """Continue the run to its end; return its exit code and what it said."""
        code = self.start(*more, before=before).wait(timeout=250)
        return code, (self.place / "said").read_text()

    def done(self) -> list[str]:
        """Return the finished measurements, each as text."""
        return [repr(record) for record in read_journal(self.journal)[0]]

    def wait_for(self, measurements: int, process: Process, seconds: float = 120) -> None:
        """Wait until there are so many measurements, or the process has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None and len(self.done()) < measurements:
            time.sleep(0.02)

    def left_over(self) -> list[str]:
        """Return the processes of the run that still exist after ten seconds, each with its command."""
        begun = time.monotonic()
        while left := self._processes():
            if time.monotonic() - begun > 10:
                break
            time.sleep(0.1)
        return [f"{pid}: {command_of(pid)}" for pid in left]

    def _processes(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").readlink() == self.place:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


def command_of(pid: int) -> str:
    """Return the command of a process, or "gone"."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip() or "ending"
    except OSError:
        return "gone"


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Send a signal; return whether the process existed."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def blamed(runs: Runs) -> set[str]:
    """Return the cells that were recorded as crashed: each has lost its process twice, and the run has said so twice."""
    cells = [record for record in read_journal(runs.journal)[0] if record.status == "crashed"]
    for record in cells:
        count = re.search(r"(\d+) times in a row", record.error)
        assert count is not None and int(count[1]) >= 2, record.error
    said = (runs.place / "said").read_text()
    losses = re.findall(r"^warning: (.*): the process .* at step ('.*'); (trying again|recorded)$", said, re.MULTILINE)
    for cell, step, fate in losses:
        assert fate != "recorded" or (cell, step, "trying again") in losses, said
    return {record.cell for record in cells}


def assert_whole(runs: Runs, quiet: pd.DataFrame, *, exactly: bool = True, again: Collection[str] = ()) -> None:
    """Nothing is lost, nothing is doubled, nothing is left behind.

    Args:
        runs: what was disturbed.
        quiet: the table of a run that was not.
        exactly: so many lines; not if something was repeated.
        again: cells that were measured in a second attempt.
    """
    table = comparable(runs.place / "run")
    quiet = quiet.assign(attempts=quiet["attempts"].where(~quiet["cell"].isin(list(again)), 2))
    pd.testing.assert_frame_equal(table, quiet, check_exact=True)
    lines = runs.journal.read_text().splitlines()
    assert len(lines) == len(set(lines))
    assert not exactly or len(lines) == len(quiet)
    assert runs.left_over() == []
