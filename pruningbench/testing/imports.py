"""Checks of importing a plugin: what it changes in the process, prints, loads and costs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pruningbench.plugins.containment import LONGEST, SLOW

WATCH = Path(__file__).with_name("watch_import.py")
NO_WORK = "Every command imports every plugin: do no work on import."
LAZY = "Every command imports every plugin: register 'package.module:Class', and import libraries inside methods."
SHARED = "Other components and the user's own code share the process: change it inside a method, and restore it."
QUIET = "Programs read the output of commands: print nothing; inside a task, `context.report` shows progress."


@dataclass(frozen=True)
class _Seen:
    """What a process saw while it imported a module; `failure` says why it saw nothing."""

    changed: list[str]
    loaded: list[str]
    seconds: float
    error: str
    printed: str = ""
    failure: str = ""


def import_findings(module: str) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with importing a module, in processes of their own, as (check, what, remedy).

    It is imported twice: as `pruningbench list` would, and in a process that has torch, NumPy and matplotlib, whose
    global state it could change.
    """
    plain = _watch(module)
    ready = plain if plain.failure or plain.error else _watch(module, "with-libraries")
    failure = plain.failure or ready.failure
    if failure:
        yield "import", f"importing {module} {failure}", NO_WORK
    elif plain.error or ready.error:
        yield "import", f"importing {module} raised {plain.error or ready.error}", LAZY
    else:
        if plain.loaded:
            yield "heavy import", f"importing {module} imports {', '.join(plain.loaded)}", LAZY
        elif plain.seconds > SLOW:
            yield "slow import", f"importing {module} takes {plain.seconds:.1f} s", NO_WORK
        for what in ready.changed:
            yield "global state", f"importing {module} changes {what}", SHARED
        if plain.printed.strip():
            yield "print", f"importing {module} prints {plain.printed.strip().splitlines()[0][:80]!r}", QUIET


def _watch(module: str, *libraries: str) -> _Seen:
    """Import a module in another process."""
    with tempfile.TemporaryDirectory() as folder:
        report, printed = Path(folder) / "report", Path(folder) / "printed"
        command = [sys.executable, "-P", str(WATCH), module, str(report), str(printed), *libraries]
        try:
            subprocess.run(command, timeout=LONGEST, capture_output=True, check=False)  # noqa: S603 - our own file
        except subprocess.TimeoutExpired:
            return _Seen([], [], 0.0, "", failure=f"takes longer than {LONGEST:g} s")
        if not report.is_file():
            return _Seen([], [], 0.0, "", failure="ends the process")
        text = printed.read_text("utf-8", "replace") if printed.is_file() else ""
        return _Seen(**json.loads(report.read_text("utf-8")), printed=text)
