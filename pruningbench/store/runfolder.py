"""Run folders: the files of a run, and which process may write them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pruningbench.base.files import expanded, not_plain, read_plain, write_whole
from pruningbench.base.identity import content_hash
from pruningbench.base.yamlsource import MOST_BYTES, parse_yaml
from pruningbench.errors import RunFolderError, SuiteError
from pruningbench.store.folderlock import LOCK, FolderLock, is_locked
from pruningbench.store.lease import LEASE

SUITE, ENVIRONMENT, RESULTS = "suite.yaml", "environment.json", "results.jsonl"
RUNNING, STALE, SOURCES = "running.json", "stale.json", "sources.json"
DAMAGED = "results.damaged.jsonl"
ROOMS = ("masks", "weights", "samples", "exhibits", "figures", "cache")

AXES = ("models", "pruners", "sparsities", "recipes", "seeds", "tasks", "metrics")
"""Keys of a suite that may grow; finished task runs stay finished."""
LIMITS = {"for", "only"}
"""Keys beside ``use:`` that limit an item to some cells of the suite."""
KNOBS = ("description", "batch_size", "keep")
"""Keys of a suite that do not change any result."""


class RunFolder:
    """The folder of one run: ``suite.yaml environment.json results.jsonl masks/ figures/`` and more.

    The folder may come from an untrusted source, so nothing in it may lead outside: its folders and files must not be
    links. Access to anything else raises RunFolderError.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = expanded(path)
        self._lock = FolderLock(self.path)

    @property
    def results(self) -> Path:
        """The journal."""
        return self.path / RESULTS

    @property
    def damaged(self) -> Path:
        """Lines that were removed from a damaged journal (`pruningbench.store.mending`)."""
        return self.path / DAMAGED

    @property
    def suite(self) -> Path:
        """The resolved suite."""
        return self.path / SUITE

    @property
    def environment(self) -> Path:
        """The environment: what the results depend on besides the suite."""
        return self.path / ENVIRONMENT

    @property
    def running(self) -> Path:
        """The current work; the file exists only while a process runs, or after it died."""
        return self.path / RUNNING

    @property
    def stale(self) -> Path:
        """Marks of the finished measurements that are no longer valid (`pruningbench.store.marks`)."""
        return self.path / STALE

    @property
    def sources(self) -> Path:
        """The content of models and data sets at the last check (`pruningbench.harness.sources`)."""
        return self.path / SOURCES

    @property
    def private_cache(self) -> Path:
        """The cache of a run that must not use the machine's cache; removed when the run is finished."""
        return self._room("cache")

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self._room("figures")

    def mask_file(self, cell: str) -> Path:
        """Return the file of a cell's masks."""
        return self._room("masks") / f"{_safe(cell)}.safetensors"

    def weights_file(self, cell: str) -> Path:
        """Return the file of the weights of a cell's pruned network; it exists if the suite says ``keep: weights``."""
        return self._room("weights") / f"{_safe(cell)}.safetensors"

    def samples_file(self, cell: str, task: str) -> Path:
        """Return the file of a task's per-sample values: an .npz of ``variant|metric`` -> (N,) float64.

        A metric with a curve adds ``variant|metric|curve`` (N, K), ``|x`` (K,) and ``|x label``.
        """
        return self._room("samples") / f"{_safe(cell)}.{_safe(task)}.npz"

    def exhibit_file(self, cell: str, task: str, variant: str) -> Path:
        """Return the file of a task's samples for the figures."""
        return self._room("exhibits") / f"{_safe(cell)}.{_safe(task)}.{_safe(variant)}.npz"

    def _room(self, name: str) -> Path:
        """Return the subfolder of this name.

        Raises:
            RunFolderError: if it is something else, such as a link.
        """
        room = self.path / name
        why = not_plain(room)
        if why not in (None, "is a folder"):
            raise _foreign(room, str(why))
        return room

    def check(self, digest: str, resolved: dict[str, Any]) -> None:
        """Make sure that this folder can hold a run of the suite, without writing anything.

        Raises:
            RunFolderError: if it is not writable, is not a folder, holds other files, links or pipes, or belongs to
                another suite.
        """
        try:
            exists = self.path.is_dir()
            if not exists and (self.path.exists() or self.path.is_symlink()):
                raise RunFolderError(f"{self.path}: is not a folder; choose another --out")
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be used as output folder ({error.strerror})") from None
        if not exists:
            _check_creatable(self.path)
            return
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise RunFolderError(f"{self.path}: output folder is not writable; choose another --out")
        for name in ROOMS:
            self._room(name)
        for name in (SUITE, ENVIRONMENT, RESULTS, RUNNING, LOCK, LEASE, STALE, SOURCES, DAMAGED):
            why = not_plain(self.path / name)
            if why is not None:
                raise _foreign(self.path / name, why)
        if self.environment.exists() or self.results.exists():
            self._check_same_suite(digest, resolved)
        elif not {p.name for p in self.path.iterdir() if not p.name.startswith(".")} <= {"masks", "figures"}:
            raise RunFolderError(f"{self.path}: holds other files and is not a run folder; choose another --out")

    def _check_same_suite(self, digest: str, resolved: dict[str, Any]) -> None:
        try:
            stored = json.loads(read_plain(self.environment))["suite_digest"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise RunFolderError(
                f"{self.path}: holds a run whose {ENVIRONMENT} is missing or damaged; choose another --out"
            ) from None
        if stored != digest:
            difference = self._difference(resolved)
            if difference:
                raise RunFolderError(f"{self.path}: belongs to another suite ({difference}); choose another --out")

    def _difference(self, resolved: dict[str, Any]) -> str:
        """Return how the stored suite differs; "" if it is the same as the wanted suite or a part of it."""
        stored = self.stored_suite()
        if isinstance(stored, str):
            return stored
        return suite_difference(stored, json.loads(json.dumps(resolved)))

    def stored_suite(self) -> dict[str, Any] | str:
        """Return the stored suite, or what is wrong with it."""
        try:
            stored = parse_yaml(read_plain(self.suite, most=MOST_BYTES).decode("utf-8"), SUITE).value
        except (OSError, UnicodeDecodeError, SuiteError):
            return f"its {SUITE} cannot be read"
        return stored if isinstance(stored, dict) else f"its {SUITE} is not a suite"

    def create(self, suite_yaml: str, digest: str) -> None:
        """Create the folder with its resolved suite; an existing folder gets the grown suite.

        Call `check` first: it makes sure that the stored suite is the same as this one or a part of it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            stored = self._stored_digest()
            if stored is None:  # first, so that a folder interrupted here is recognised later
                self.write_environment({"suite_digest": digest})
            if not self.suite.exists() or read_plain(self.suite, most=MOST_BYTES) != suite_yaml.encode():
                write_whole(self.suite, suite_yaml.encode(), durable=True)
            if stored not in (None, digest):
                self.write_environment({"suite_digest": digest})
            for name in ("masks", "figures"):
                self._room(name).mkdir(exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{self.path}: output folder cannot be made ({error.strerror})") from None

    def _stored_digest(self) -> str | None:
        try:
            return str(json.loads(read_plain(self.environment))["suite_digest"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_environment(self, environment: dict[str, Any]) -> dict[str, list[Any]]:
        """Record the environment: in full for the first run, and as differences for a resumed run.

        Returns:
            What differs from the first environment: name -> [first, current].
        """
        try:
            stored: dict[str, Any] = json.loads(read_plain(self.environment))
            if not isinstance(stored.get("resumed", []), list):
                raise TypeError("`resumed` is not a list")
        except FileNotFoundError:
            stored = {}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise RunFolderError(f"{self.environment}: damaged ({error}); choose another --out") from None
        changed: dict[str, list[Any]] = {}
        if "suite_digest" in environment or "pruningbench" not in stored:
            stored |= environment
        elif "pruningbench" in environment:
            changed = {
                key: [stored.get(key), value]
                for key, value in environment.items()
                if key != "time" and stored.get(key) != value
            }
            resumed = {"time": environment["time"], "changed": {key: pair[1] for key, pair in changed.items()}}
            stored.setdefault("resumed", []).append(resumed)
        write_whole(self.environment, (json.dumps(stored, indent=2) + "\n").encode(), durable=True)
        return changed

    def lock(self, warn: Callable[[str], None] = lambda _message: None) -> None:
        """Make this process the only one that writes here, until it ends.

        Args:
            warn: receives lines about a process on another machine that may be at work.

        Raises:
            RunFolderError: if another process holds the lock.
        """
        self._lock.acquire(warn)

    def check_lock(self) -> None:
        """Make sure that this process, which has locked the folder, may still write.

        Raises:
            RunFolderError: if a process on another machine has taken over.
        """
        self._lock.check()

    def locked(self) -> bool:
        """Whether another process is running a suite here."""
        return is_locked(self.path)

    def unlock(self) -> None:
        """Let other processes write here again."""
        self._lock.release()


def _foreign(path: Path, why: str) -> RunFolderError:
    return RunFolderError(f"{path}: {why}, but a run folder holds only plain files; remove it, or choose another --out")


def suite_difference(stored: dict[str, Any], requested: dict[str, Any]) -> str:
    """Return how a stored suite differs from the wanted one, both given as plain values.

    Returns:
        "" if they are the same, or if each axis of the wanted suite has all items of the stored suite and possibly
        more; else the first difference. Keys that do not change any result are not compared.
    """
    for key, value in requested.items():
        if key in KNOBS:
            continue
        stored_value = stored.get(key)
        if key not in AXES or not isinstance(stored_value, list):
            if stored_value != value:
                return f"`{key}` there: {_clip(stored_value)}, here: {_clip(value)}"
            continue
        lacking = [item for item in stored_value if not any(_covers(wanted, item) for wanted in value)]
        if lacking:
            added = [item for item in value if not any(_covers(item, there) for there in stored_value)]
            alternative = (
                f"and has {_clip(added[0])} instead" if added else "a smaller suite; to run a part of it use --only"
            )
            return f"`{key}` here lacks {_clip(lacking[0])}, {alternative}"
    extra = [key for key in stored if key not in requested and key not in KNOBS]
    return f"`{extra[0]}` there: {_clip(stored[extra[0]])}, not here" if extra else ""


def _covers(wanted: Any, stored: Any) -> bool:
    """Whether an item of a suite has all cells of a stored item: limits beside ``use:`` may be lifted or widened."""
    if wanted == stored:
        return True
    if not isinstance(stored, dict) or not LIMITS & stored.keys():
        return False
    bare = {key: value for key, value in stored.items() if key not in LIMITS}
    fields = {key: value for key, value in wanted.items() if key not in LIMITS} if isinstance(wanted, dict) else wanted
    if fields != (bare if isinstance(wanted, dict) or len(bare) > 1 else bare.get("use")):
        return False
    limits = _limits(wanted) if isinstance(wanted, dict) else {}
    return all(key in _limits(stored) and set(limits[key]) >= set(_limits(stored)[key]) for key in limits)


def _limits(item: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the limits of an item: models, seeds and sparsities that it is for."""
    only = item.get("only", {})
    found = {"for": item.get("for"), **(only if isinstance(only, dict) else {})}
    return {key: values for key, values in found.items() if isinstance(values, list)}


def _check_creatable(path: Path) -> None:
    parent = path
    while not parent.exists():
        if parent.parent == parent:
            break
        parent = parent.parent
    if not parent.is_dir():
        raise RunFolderError(f"{path}: output folder cannot be made ({parent} is not a folder)")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunFolderError(f"{path}: output folder cannot be made ({parent} is not writable)")


def _safe(name: str) -> str:
    """Return a safe file name for any label: the label itself if it is harmless, "-" if it is empty."""
    readable = "".join(c if (c.isalnum() and c.isascii()) or c in "_-" else "_" for c in name)[:40]
    if name and name == readable and name != "-":
        return name
    return f"{readable}_{content_hash(name, length=8)}" if name else "-"


def _clip(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
