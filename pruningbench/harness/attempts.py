"""Deaths: which step of which cell was at work when the process was killed."""

from __future__ import annotations

import json
from pathlib import Path

from pruningbench.files import write_whole

MOST_DEATHS = 5


class DeathWatch:
    """Notes what is at work in a small file, so that the next process knows where the last one died.

    A process may die through no fault of the cell (somebody pulled the plug), so the same step of the
    same cell has to be at work, at the same progress note, at `MOST_DEATHS` deaths in a row before the
    cell counts as crashed.

    Attributes:
        suspect: (cell, step, note) at work when the last process died, or None.
        deaths: how often in a row it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suspect: tuple[str, str, str] | None = None
        self.deaths = 0
        self._at = ("", "", "")
        try:
            stored = json.loads(path.read_text("utf-8"))
            self.suspect = (str(stored["cell"]), str(stored["step"]), str(stored["note"]))
            self.deaths = int(stored["deaths"]) + 1
        except FileNotFoundError:
            return  # the last process ended in good order
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)  # damaged: nothing can be learnt from it

    @property
    def crashed(self) -> tuple[str, str] | None:
        """The (cell, step) that killed its process too often, or None."""
        return self.suspect[:2] if self.suspect and self.deaths >= MOST_DEATHS else None

    def enter(self, cell: str, step: str) -> None:
        """Note that a step begins."""
        self._write((cell, step, ""))

    def note(self, message: str) -> None:
        """Note progress within the step."""
        self._write((*self._at[:2], message))

    def leave(self) -> None:
        """Note that this process ends in good order."""
        self.path.unlink(missing_ok=True)

    def _write(self, at: tuple[str, str, str]) -> None:
        self._at = at
        deaths = self.deaths if self.suspect == at else 0
        values = {"cell": at[0], "step": at[1], "note": at[2], "deaths": deaths}
        write_whole(self.path, json.dumps(values).encode())
