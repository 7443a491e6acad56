"""Digests of files: stored by the state of the file, and not trusted where everything has to be verified."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pruningbench_data import _digests
from pruningbench_data._digests import contents

from pruningbench.base.rereading import rereading

OLD = 10**18
"""Nanoseconds since 1970 of a settled file."""


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(OLD, OLD))


def test_a_file_replaced_under_the_same_size_and_time_has_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_digests, "SETTLED", -1.0)  # the status changed just now
    file, other = tmp_path / "a", tmp_path / "b"
    write(file, b"one")
    first = contents([file])
    write(file, b"two")  # in place
    second = contents([file])
    write(other, b"six")
    other.replace(file)  # by another file
    assert len({*first, *second, *contents([file])}) == 3


def test_a_stored_digest_saves_reading_unless_everything_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_digests, "SETTLED", -1.0)
    read: list[str] = []
    own = _digests._hash
    monkeypatch.setattr(_digests, "_hash", lambda name: read.append(name) or own(name))
    write(tmp_path / "a", b"one")
    values = [contents([tmp_path / "a"]) for _ in range(3)]
    assert len(read) == 1
    with rereading():
        values.append(contents([tmp_path / "a"]))
    assert len(read) == 2 and len({tuple(value) for value in values}) == 1


def test_a_file_that_has_just_changed_is_not_stored(tmp_path: Path) -> None:
    write(tmp_path / "a", b"one")  # its modification time is old, but not that of its status
    assert _digests._stored_digests([str(tmp_path / "a")]) == {}
    contents([tmp_path / "a"])
    assert _digests._stored_digests([str(tmp_path / "a")]) == {}
