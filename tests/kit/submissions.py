"""A finished toy run, its submission, and forged submissions whose hashes fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kit.runs import run
from pruningbench.plugins import Registry
from pruningbench.publishing.submitting import submission_members
from pruningbench.store.submission_format import (
    MANIFEST,
    Manifest,
    archive_bytes,
    manifest_bytes,
    member,
    submission_digest,
)

SUITE = """\
name: tiny
models: [toy-net]
pruners: [toy-pruner]
sparsities: [0, 0.5]
recipes: [none, {use: finetune, epochs: 1}]
tasks:
  - {use: toy-task, data: {use: toy-data, split: test}}
metrics: [toy-margin, toy-median]
"""
CHECKS = [
    "schema", "hashes", "duplicates", "suite", "coverage", "seeds and data", "fingerprints", "data", "code", "values",
    "intervals", "ranges", "masks",
]  # fmt: skip
"""The checks of `verify` in order."""
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_registry: Registry) -> Path:
    """The folder of a finished run; nobody may change it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNINGBENCH_CACHE", str(folder / "cache"))
        patch.delenv("TOY_LOG", raising=False)
        assert run(SUITE, toy_registry, folder / "tiny").ok
    return folder / "tiny"


@pytest.fixture(scope="session")
def members(finished: Path, toy_registry: Registry) -> Mapping[str, bytes]:
    """The members of the run's submission."""
    return submission_members(finished, toy_registry)[0]


@pytest.fixture()
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture()
def submitted(members: Mapping[str, bytes], tmp_path: Path) -> Iterator[Path]:
    """A submission file."""
    yield write(tmp_path / "tiny.pbsub.zip", members)


def write(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write members as they are, whatever the manifest says."""
    path.write_bytes(archive_bytes(members))
    return path


def forge(path: Path, members: Mapping[str, bytes], changes: Mapping[str, bytes] = {}, /, **fields: Any) -> Path:
    """Write a submission with changed members, and a manifest whose hashes and counts fit them.

    Args:
        path: the file.
        members: the members of an honest submission.
        changes: new content of members.
        fields: new values of the manifest's fields.
    """
    changed = {**members, **changes}
    values = json.loads(members[MANIFEST])
    values["members"] = {name: member(content).model_dump() for name, content in changed.items() if name != MANIFEST}
    rows = [
        json.loads(line) for line in changed["results.jsonl"].splitlines() if line.startswith(b"{") and _whole(line)
    ]
    values["rows"] = len(rows)
    values["cells"] = len({row["cell"] for row in rows if "cell" in row})
    values["task_runs"] = len({(row["cell"], row["task"]) for row in rows if "cell" in row and "task" in row})
    content = (json.dumps({**values, **fields}) + "\n").encode()
    return write(path, {**changed, MANIFEST: content})


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def edited(members: Mapping[str, bytes], change: Change, *, only: int | None = None) -> dict[str, bytes]:
    """Return the journal with each row changed in place, or only the row at one position."""
    rows = [json.loads(line) for line in members["results.jsonl"].splitlines()]
    for i, row in enumerate(rows):
        if only is None or i == only:
            change(row)
    return {"results.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows)}


def digest_of(path: Path) -> str:
    """Return the digest of a submission file."""
    import zipfile

    with zipfile.ZipFile(path) as file:
        return submission_digest(file.read(MANIFEST))


def honest_manifest(members: Mapping[str, bytes]) -> bytes:
    """Return the manifest of members as the project itself writes it."""
    return manifest_bytes(Manifest.model_validate_json(members[MANIFEST]))
