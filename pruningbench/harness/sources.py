"""The files that weights and data come from, and the content that they had at the last check.

Loading every model of a finished run only to see that nothing has changed would be wasteful. A run folder therefore
stores the content of each model and data set, together with sizes, inodes and times of its files. As long as these stay
the same, the content is taken to be the same. If they differ, or if a component has no files of its own and there is
work left, it is opened and checked.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pruningbench.base.files import read_plain, write_whole
from pruningbench.base.identity import content_hash
from pruningbench.contract import Dataset, Model, Samples, Use, VisionModel
from pruningbench.harness.artifacts import Contents, Parts, key_of, model_parts
from pruningbench.suite.plan import Plan

MOST_FILES = 200_000
"""If a component has more files than this, none of their modification times is read, as that would take minutes."""
DATA = "data"
"""Name of the only part of a data set."""


def stamp(use: Use) -> str:
    """Return a hash of size, inode and times of all files that a component names; "" for none or too many.

    These are the paths in its fields and in the fields of the components that it names, and the folder of a data set.
    """
    every = (entry for path in _paths(use) for entry in _entries(path))
    files = list(itertools.islice(every, MOST_FILES + 1))
    return content_hash(sorted(files)) if 0 < len(files) <= MOST_FILES else ""


def _paths(use: Use) -> Iterator[Path]:
    component = use.component
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        for text in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(text, str) and text:
                yield from _existing(text, text.rpartition(":")[0])
    if isinstance(component, Dataset):
        folder = component.folder()
        if folder is not None:
            yield from _existing(os.fspath(folder))
    for other in use.references.values():
        yield from _paths(other)


def _existing(*texts: str) -> Iterator[Path]:
    for text in filter(None, texts):
        try:
            path = Path(text).expanduser()
            if path.exists():
                yield path
                return
        except (OSError, ValueError, RuntimeError):  # not a path: too long, contains a NUL, or no such user
            continue


def _entries(path: Path) -> Iterator[list[Any]]:
    """Yield [path, size, modification time, status change time, inode] of a file, or of all files in a folder."""
    if not path.is_dir():
        yield _entry(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                yield _entry(Path(folder, name))
            except OSError:
                continue  # a broken link


def _entry(path: Path) -> list[Any]:
    stat = path.stat()
    return [os.fspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def uses_of(plan: Plan) -> dict[str, Use]:
    """Return the models and data sets that a plan's cells and tasks read, by the key of their use."""
    some = [cells[0] for cells in plan.alike]
    uses = [cell.model for cell in some]
    uses += [cell.data for cell in some if cell.data is not None]
    uses += [other for run in plan.tasks for other in run.task.references.values()]
    different = {id(use): use for use in uses}.values()  # a few serve many cells
    return {key_of(use): use for use in different if isinstance(use.component, (Model, Dataset))}


class Sources:
    """The content of a plan's models and data sets, as far as it is known without opening them.

    Args:
        file: the file in the run folder that stores it.
        plan: the plan that uses the components.
    """

    def __init__(self, file: Path, plan: Plan) -> None:
        self.file, self.uses = file, uses_of(plan)
        self._stored = _read(file)
        self._stamps: dict[str, str] = {}
        self.contents = Contents()
        for key, use in self.uses.items():
            stored = self._stored.get(key)
            if stored is not None and stored["stamp"] and stored["stamp"] == self.stamp(key):
                self._note(self.contents, key, use, stored["parts"])

    def stamp(self, key: str) -> str:
        """Return the stamp that a component had when this process first asked for it."""
        if key not in self._stamps:
            self._stamps[key] = stamp(self.uses[key])
        return self._stamps[key]

    def stamp_all(self) -> None:
        """Take the stamps of all components now, before any is opened, so that a later change of a file is noticed."""
        for key in self.uses:
            self.stamp(key)

    def touched(self) -> list[str]:
        """Return the components whose files have changed since they were last checked."""
        return [
            key
            for key, stored in self._stored.items()
            if key in self.uses and stored["stamp"] not in ("", self.stamp(key))
        ]

    def unknown(self) -> list[str]:
        """Return the components whose content is unknown until they are opened."""
        return [key for key in self.uses if key not in self.contents.models and key not in self.contents.data]

    def look_into(
        self,
        keys: Iterable[str],
        open_model: Callable[[Use], VisionModel],
        open_data: Callable[[Use], Samples],
    ) -> list[str]:
        """Open components to learn their content.

        Returns:
            One line for each component that could not be opened, with the reason; its content stays unknown.
        """
        problems = []
        for key in keys:
            use = self.uses[key]
            component = use.component
            assert isinstance(component, (Model, Dataset))  # noqa: S101 - uses_of took these only
            lack = component.missing()
            try:
                if lack:
                    raise FileNotFoundError(lack)
                if isinstance(component, Model):
                    self.contents.models[key] = model_parts(open_model(use))
                else:
                    self.contents.data[key] = str(open_data(use).fingerprint)
            except Exception as error:  # noqa: BLE001 - third-party components may raise anything
                why = str(error).strip().partition("\n")[0] or type(error).__name__
                problems.append(
                    f"{component.kind} {use.label} cannot be compared with what was measured before ({why})"
                )
        return problems

    def save(self, learnt: Contents | None = None) -> None:
        """Store what is known, with the stamps that the files had when this process first asked for them."""
        contents = Contents(dict(self.contents.models), dict(self.contents.data))
        if learnt is not None:
            contents.models |= learnt.models
            contents.data |= learnt.data
        stored = dict(self._stored)
        for key in self.uses:
            parts = contents.models.get(key) or ({DATA: contents.data[key]} if key in contents.data else None)
            if parts:
                stored[key] = {"stamp": self.stamp(key), "parts": parts}
        with suppress(OSError):  # the file only saves time
            write_whole(self.file, (json.dumps(stored, indent=1) + "\n").encode())

    @staticmethod
    def _note(contents: Contents, key: str, use: Use, parts: Parts) -> None:
        if isinstance(use.component, Model):
            contents.models[key] = parts
        else:
            contents.data[key] = parts[DATA]


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        stored = json.loads(read_plain(file))
        return {
            str(key): {"stamp": str(value["stamp"]), "parts": {str(n): str(t) for n, t in value["parts"].items()}}
            for key, value in stored.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # the file only saves time
