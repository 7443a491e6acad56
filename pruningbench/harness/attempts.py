"""Deaths: what was at work when a process died, and when a cell is to blame for it."""

from __future__ import annotations

import json
from pathlib import Path

from pruningbench.base.files import read_plain, write_whole

MOST_CRASHES = 2
"""A step that killed its process this often in a row, while its supervisor lived on, has crashed."""
MOST_DEATHS = 5
"""The same for deaths of unknown cause: whoever killed the process may have meant the whole run."""


class DeathWatch:
    """Notes what is at work in a small file, so that the next process knows where the last one died.

    Attributes:
        suspect: (cell, step, note) at work when the last process died, or None.
        crashes: how often in a row it was, while the supervisor lived.
        deaths: how often in a row it was, for unknown reasons.
        reason: what the supervisor saw of the last death.
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
            return  # the last process ended in good order
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            path.unlink(missing_ok=True)  # damaged: nothing can be learnt from it
        else:
            self.suspect, self.crashes, self.reason = suspect, crashes, reason
            self.deaths = deaths + (not reason)

    @property
    def crashed(self) -> tuple[str, str] | None:
        """The (cell, step) that killed its process too often, or None."""
        guilty = self.crashes >= MOST_CRASHES or self.deaths >= MOST_DEATHS
        return self.suspect[:2] if self.suspect and guilty else None

    @property
    def verdict(self) -> str:
        """One line on what happened, for the record."""
        if self.crashes >= MOST_CRASHES:
            return f"the process {self.reason} {self.crashes} times in a row"
        return f"the process was killed {self.deaths} times in a row"

    def blame(self, reason: str) -> bool:
        """Count a death that the supervisor saw against what was at work; False if nothing was."""
        if self.suspect is None:
            return False
        known_before = bool(self.reason)
        self.crashes, self.reason = self.crashes + 1, reason
        self._write(self.suspect, self.crashes, self.deaths - (not known_before), reason)
        return True

    def enter(self, cell: str, step: str) -> None:
        """Note that a step begins."""
        self._at = (cell, step, "")
        self._begin()

    def note(self, message: str) -> None:
        """Note progress within the step."""
        self._at = (*self._at[:2], message)
        self._begin()

    def leave(self) -> None:
        """Note that this process ends in good order."""
        self.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Write what is at work; the earlier deaths count on only if they were here too.

        A crash comes back in the same step; a death of unknown cause must also hit the same note, so
        that somebody who stops a long training again and again does not condemn its cell.
        """
        same_step = self.suspect is not None and self.suspect[:2] == self._at[:2]
        self._write(self._at, self.crashes if same_step else 0, self.deaths if self.suspect == self._at else 0, "")

    def _write(self, at: tuple[str, str, str], crashes: int, deaths: int, reason: str) -> None:
        if not self.path.parent.is_dir():  # deleted in the middle of the run: the journal will say so
            return
        cell, step, note = at
        values = {"cell": cell, "step": step, "note": note, "crashes": crashes, "deaths": deaths, "reason": reason}
        write_whole(self.path, json.dumps(values).encode())
