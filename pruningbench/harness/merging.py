"""Merging: one run folder from several of the same suite, such as its shards."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruningbench.base.files import read_plain, write_whole
from pruningbench.base.yamlsource import MOST_BYTES
from pruningbench.errors import RunFolderError, UsageError
from pruningbench.store.journal import encoded, latest, read_journal
from pruningbench.store.marks import Group, Mark, read_marks, write_marks
from pruningbench.store.mirroring import fetched, is_written
from pruningbench.store.records import Record
from pruningbench.store.remote import is_url, shown
from pruningbench.store.runfolder import RunFolder, suite_difference

Key = tuple[str, str]


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        task_runs: number of task runs in the merged folder.
        repeated: number of task runs that were in several folders; the best attempt is kept, or the first of them.
        differing: number of those that have other values in another folder.
    """

    task_runs: int
    repeated: int
    differing: int


@dataclass(frozen=True)
class _Part:
    folder: RunFolder
    environment: dict[str, Any]
    groups: dict[Key, tuple[Record, ...]]


def merge(folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Merged:
    """Write a new run folder with the measurements of several folders of one suite; the folders stay as they are.

    A folder may also be given as the text of a URL.

    Raises:
        UsageError: if there are fewer than two folders, or `out` exists.
        RunFolderError: if a folder is no run folder, is being written, or belongs to another suite.
    """
    parts = [_part(RunFolder(folder)) for folder in dict.fromkeys(map(_on_this_machine, folders))]
    if len(parts) < 2:
        raise UsageError("merge: at least two different run folders are needed")
    target = RunFolder(out)
    if target.path.exists():
        raise UsageError(f"{target.path}: exists; choose another --out")
    _check_same_suite(parts)
    chosen: dict[Key, _Part] = {}
    for part in parts:
        for key, lines in part.groups.items():
            if key not in chosen or (_is_ok(lines) and not _is_ok(chosen[key].groups[key])):
                chosen[key] = part
    having = {key: [part.groups[key] for part in parts if key in part.groups] for key in chosen}
    differing = sum(len({_values(lines) for lines in all_lines if _is_ok(lines)}) > 1 for all_lines in having.values())
    temporary = target.path.with_name(f".{target.path.name}.merging")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write(RunFolder(temporary), parts, chosen)
        temporary.replace(target.path)
    except OSError as error:
        raise RunFolderError(f"{target.path}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Merged(len(chosen), sum(len(lines) > 1 for lines in having.values()), differing)


def _on_this_machine(folder: str | os.PathLike[str]) -> str:
    """Return the path of a run folder, or of a copy of one at a URL."""
    if not (isinstance(folder, str) and is_url(folder)):
        return os.path.realpath(folder)
    if is_written(folder):
        raise RunFolderError(f"{shown(folder)}: a run is writing it; wait for it to end")
    return os.path.realpath(fetched(folder, weights=True))


def _part(folder: RunFolder) -> _Part:
    if folder.locked():
        raise RunFolderError(f"{folder.path}: a run is writing it; wait for it to end")
    try:
        environment = json.loads(read_plain(folder.environment))
        if not isinstance(environment, dict) or "suite_digest" not in environment:
            raise ValueError("it names no suite")
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{folder.path}: is not a run folder ({error})") from None
    groups: dict[Key, list[Record]] = {}
    for record in latest(read_journal(folder.results)[0]):
        groups.setdefault((record.cell, record.task), []).append(record)
    return _Part(folder, environment, {key: tuple(lines) for key, lines in groups.items()})


def _check_same_suite(parts: Sequence[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.environment["suite_digest"] != first.environment["suite_digest"]:
            mine, others = first.folder.stored_suite(), part.folder.stored_suite()
            texts = isinstance(mine, str) or isinstance(others, str)
            difference = "" if texts else suite_difference(others, mine)  # type: ignore[arg-type]
            raise RunFolderError(
                f"{part.folder.path}: belongs to another suite than {first.folder.path}"
                + (f" ({difference})" if difference else "")
            )


def _is_ok(lines: Sequence[Record]) -> bool:
    return all(line.status == "ok" for line in lines)


def _values(lines: Sequence[Record]) -> tuple[str, ...]:
    return tuple(sorted(f"{line.variant}|{line.metric}|{line.value!r}" for line in lines))


def _write(target: RunFolder, parts: Sequence[_Part], chosen: dict[Key, _Part]) -> None:
    target.path.mkdir(parents=True)
    write_whole(target.suite, read_plain(parts[0].folder.suite, most=MOST_BYTES), durable=True)
    write_whole(target.environment, (json.dumps(_environment(parts), indent=2) + "\n").encode(), durable=True)
    for name in ("masks", "figures"):
        (target.path / name).mkdir()
    marks: dict[Group, Mark] = {}
    for part in parts:
        _copy_files(part, target, {key for key, owner in chosen.items() if owner is part})
        marks |= {group: mark for group, mark in read_marks(part.folder.stale).items() if chosen.get(group[:2]) is part}
    if marks:
        write_marks(target.stale, marks)
    lines = [encoded(part.groups[key]) for key, part in chosen.items()]
    write_whole(target.results, b"".join(lines), durable=True)


def _environment(parts: Sequence[_Part]) -> dict[str, Any]:
    """Return the environment of the first folder, and how those of the others differ."""
    first = parts[0].environment
    others = []
    for part in parts[1:]:
        changed = {
            name: value
            for name, value in part.environment.items()
            if name not in ("time", "resumed", "merged") and first.get(name) != value
        }
        others.append({"folder": part.folder.path.name, "time": part.environment.get("time"), "changed": changed})
    return {**first, "merged": [*first.get("merged", []), *others]}


def _copy_files(part: _Part, target: RunFolder, keys: set[Key]) -> None:
    """Copy the files of the chosen task runs of a folder."""
    for cell, task in sorted(keys):
        variants = {line.variant for line in part.groups[cell, task]}
        sources, copies = _files(part.folder, cell, task, variants), _files(target, cell, task, variants)
        for source, copy in zip(sources, copies, strict=True):
            if source.exists() and not copy.exists():
                write_whole(copy, read_plain(source))


def _files(folder: RunFolder, cell: str, task: str, variants: set[str]) -> list[Path]:
    """Return the files that a task run may have in a folder."""
    files = [folder.mask_file(cell), folder.weights_file(cell), folder.samples_file(cell, task)]
    return files + [folder.exhibit_file(cell, task, variant) for variant in sorted(variants)]
