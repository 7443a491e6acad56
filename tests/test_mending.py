"""Damaged journals: whole tasks stay, the rest is set aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.runs import run, said
from kit.toysuite import TOY_SUITE

from pruningbench.errors import RunFolderError
from pruningbench.plugins import Registry
from pruningbench.store.journal import Journal, read_journal
from pruningbench.store.lines import DamagedJournalError
from pruningbench.store.mending import mend, readable
from pruningbench.store.records import Record


def group(cell: str, count: int) -> list[Record]:
    base = Record("suite", cell, "model", "pruner", "none", 0.5, 0, "t", value=0.5)
    return [replace(base, metric=f"m{i}") for i in range(count)]


def written(path: Path) -> list[bytes]:
    journal = Journal(path)
    for i in range(5):
        journal.append(group(f"c{i}", 1 + i % 3))
    journal.close()
    return path.read_bytes().splitlines(keepends=True)


@cases(100)
@given(st.data())
def test_any_damage_leaves_whole_tasks_and_a_sound_journal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("journal")
    path, aside = place / "r.jsonl", place / "aside.jsonl"
    lines = written(path)
    sound, _ = read_journal(path)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(lines) - 1))
        how = data.draw(st.sampled_from(["cut", "garbage", "gone", "foreign"]))
        if how == "cut":
            lines[where] = lines[where][: data.draw(st.integers(0, len(lines[where])))]
        elif how == "garbage":
            lines[where] = bytes(data.draw(st.lists(st.integers(0, 255), max_size=20))) + b"\n"
        elif how == "gone":
            lines[where] = b""
        else:
            lines.insert(where, b'{"a": 1}\n')
    path.write_bytes(b"".join(lines))
    attempts, damaged = readable(path)
    before = [line for attempt in attempts for line in attempt.lines]
    told = mend(path, aside)
    after, _ = read_journal(path)
    assert [repr(r) for r in after] == [repr(r) for r in before]
    assert {repr(r) for r in after} <= {repr(r) for r in sound}
    assert bool(told) == damaged == aside.exists()
    assert mend(path, aside) == []
    if damaged:
        kept = path.read_bytes() + aside.read_bytes()
        assert sorted(filter(None, kept.split(b"\n"))) == sorted(filter(None, b"".join(lines).split(b"\n")))


def test_a_run_names_damage_and_measures_again(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    path = tmp_path / "run" / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"garbage\n", *lines[5:]]))
    with pytest.raises(DamagedJournalError, match=r"results\.jsonl:5: damaged line; remove it, or run the suite again"):
        read_journal(path)
    again = said(TOY_SUITE, toy_registry, tmp_path / "run")
    assert again.summary.computed == 1
    assert [line for line in again.warnings if "damaged" in line] == [
        f"{path}:{number}: damaged line moved to results.damaged.jsonl; a task that it belonged to is measured again"
        for number in (5, 6)
    ]
    assert len(read_journal(path)[0]) == len(lines)


def test_damage_between_tasks_costs_nothing(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    path = tmp_path / "run" / "results.jsonl"
    before = path.read_bytes()
    path.write_bytes(b"garbage\n" + before)
    assert run(TOY_SUITE, toy_registry, tmp_path / "run").computed == 0
    assert path.read_bytes() == before


def test_a_later_version_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    lines = written(path)
    path.write_bytes(b"garbage\n" + lines[0].replace(b"{", b'{"schema":99,', 1) + b"".join(lines[1:]))
    with pytest.raises(RunFolderError, match="later version"):
        mend(path, tmp_path / "aside")
    assert not (tmp_path / "aside").exists()
