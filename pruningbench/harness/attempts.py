"""Process deaths: what was running when a process died, and when a cell is blamed for it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from pruningbench.base.files import read_plain, write_whole

MOST_CRASHES = 2
"""A step counts as crashed after killing its process this often in a row while the supervisor survived."""
MOST_DEATHS = 5
"""The same limit for deaths of unknown cause: whoever killed the process may have meant to stop the whole run."""


class DeathWatch:
    """Records the current work in a small file, so that the next process knows where the last one died.

    Attributes:
        suspect: (cell, step, note) that was running when the last process died, or None.
        crashes: number of deaths in a row at the suspect while the supervisor survived.
        deaths: number of deaths in a row at the suspect for unknown reasons.
        reason: what the supervisor observed at the last death.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suspect: tuple[str, str, str] | None = None
        self.crashes = self.deaths = 0
        self.reason = ""
        self._at = ("", "", "")
        try:
            stored = json.loads(read_plain(path))
            suspect = (str(stored["cell"]), str(stored["step"]), str(stored["note"]))
            crashes, deaths, reason = int(stored["crashes"]), int(stored["deaths"]), str(stored["reason"])
        except FileNotFoundError:
            return  # the last process ended normally
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            path.unlink(missing_ok=True)  # damaged and therefore useless
        else:
            self.suspect, self.crashes, self.reason = suspect, crashes, reason
            self.deaths = deaths + (not reason)

    @property
    def crashed(self) -> tuple[str, str] | None:
        """The (cell, step) that killed its process too many times, or None."""
        guilty = self.crashes >= MOST_CRASHES or self.deaths >= MOST_DEATHS
        return self.suspect[:2] if self.suspect and guilty else None

    @property
    def verdict(self) -> str:
        """One line on what happened, for the record."""
        if self.crashes >= MOST_CRASHES:
            return f"the process {self.reason} {self.crashes} times in a row"
        return f"the process was killed {self.deaths} times in a row"

    def blame(self, reason: str) -> bool:
        """Blame a death that the supervisor saw on the running step; return False if no step was running."""
        if self.suspect is None:
            return False
        had_reason = bool(self.reason)
        self.crashes, self.reason = self.crashes + 1, reason
        self._write(self.suspect, self.crashes, self.deaths - (not had_reason), reason)
        return True

    def enter(self, cell: str, step: str) -> None:
        """Record that a step begins."""
        self._at = (cell, step, "")
        self._begin()

    def note(self, message: str) -> None:
        """Record progress within the step."""
        self._at = (*self._at[:2], message)
        self._begin()

    def leave(self) -> None:
        """Record that this process ends normally."""
        with suppress(OSError):  # a folder that can no longer be written is reported where results are written
            self.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Write the current work; keep the counts of earlier deaths only if they happened here too.

        A crash counts if it recurs in the same step. A death of unknown cause must also recur at the same note, so
        that a user who repeatedly stops a long training does not cause its cell to be recorded as crashed.
        """
        same_step = self.suspect is not None and self.suspect[:2] == self._at[:2]
        self._write(self._at, self.crashes if same_step else 0, self.deaths if self.suspect == self._at else 0, "")

    def _write(self, at: tuple[str, str, str], crashes: int, deaths: int, reason: str) -> None:
        if not self.path.parent.is_dir():  # deleted during the run: the journal will report it
            return
        cell, step, note = at
        values = {"cell": cell, "step": step, "note": note, "crashes": crashes, "deaths": deaths, "reason": reason}
        write_whole(self.path, json.dumps(values).encode())
