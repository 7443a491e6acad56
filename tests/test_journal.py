"""The journal: finished tasks survive anything, and unfinished ones leave no trace."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases

from pruningbench.errors import PruningBenchError, RunFolderError
from pruningbench.leaderboard.results import COLUMNS, load_results
from pruningbench.store.journal import Journal, latest, read_journal
from pruningbench.store.records import Record


def record(cell: str = "c0", task: str = "t", metric: str = "m", value: float = 0.5, **more: object) -> Record:
    base = Record("suite", cell, "model", "pruner", "none", 0.5, 0, task, metric=metric, value=value)
    return replace(base, **more)  # type: ignore[arg-type]


@given(
    st.floats(), st.floats(allow_nan=False), st.text(max_size=20), st.sampled_from(["ok", "failed", "oom"]),
    st.integers(0, 10**9), st.sampled_from([True, False, None]),
)  # fmt: skip
def test_records_survive_json(value: float, low: float, error: str, status: str, n: int, better: bool | None) -> None:
    before = record(value=value, ci_low=low, error=error, status=status, n=n, higher_is_better=better)
    text = json.dumps(before.to_json(), allow_nan=False)
    after = Record.from_json(json.loads(text))
    assert repr(after) == repr(before)  # NaN is not equal to itself, but looks the same


def test_appends_and_reads(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "r.jsonl")
    journal.append([record(metric="a"), record(metric="b")])
    journal.append([record(cell="c1", value=math.nan)])
    journal.close()
    records, size = read_journal(tmp_path / "r.jsonl")
    assert [(r.cell, r.metric, r.part, r.parts) for r in records] == [
        ("c0", "a", 1, 2),
        ("c0", "b", 2, 2),
        ("c1", "m", 1, 1),
    ]
    assert math.isnan(records[2].value)
    assert size == (tmp_path / "r.jsonl").stat().st_size
    again = Journal(tmp_path / "r.jsonl")
    assert repr([line for attempt in again.attempts for line in attempt.lines]) == repr(records)
    again.close()


GROUPS = [
    [record(cell=f"c{i}", metric=f"m{j}", value=i + j / 10, error="é\n" * i) for j in range(1 + i % 3)]
    for i in range(5)
]


@cases(200)
@given(st.data())
def test_cut_anywhere_keeps_exactly_the_finished_tasks(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever a kill leaves of the file: whole tasks stay, the rest goes, and appending works on."""
    path = tmp_path_factory.mktemp("journal") / "r.jsonl"
    journal = Journal(path)
    ends = [0]
    for group in GROUPS:
        journal.append(group)
        ends.append(path.stat().st_size)
    journal.close()
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    finished = sum(end <= cut for end in ends[1:])
    kept = [r for group in GROUPS[:finished] for r in group]
    assert [(r.cell, r.metric) for r in read_journal(path)[0]] == [(r.cell, r.metric) for r in kept]
    again = Journal(path)
    assert path.stat().st_size == ends[finished]
    for group in GROUPS[finished:]:
        again.append(group)
    again.close()
    assert path.read_bytes() == content


def test_damage_in_the_middle_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    journal = Journal(path)
    for i in range(3):
        journal.append([record(cell=f"c{i}")])
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"cell": 3}\n' + lines[2])
    with pytest.raises(RunFolderError, match=r"r\.jsonl:2: damaged"):
        read_journal(path)
    path.write_bytes(lines[0] + b"garbage\n" + lines[2])
    with pytest.raises(RunFolderError, match=r"r\.jsonl:2: damaged"):
        Journal(path)


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.jsonl"
    journal = Journal(path)
    journal.append([record()])
    before = path.read_bytes()
    real = os.write

    def full(handle: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", fail)
        return real(handle, data[:10])

    def fail(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(PruningBenchError, match="No space left"):
        journal.append([record(cell="c1"), record(cell="c1", metric="n")])
    monkeypatch.setattr(os, "write", real)
    assert path.read_bytes() == before
    journal.append([record(cell="c1")])
    journal.close()
    assert [r.cell for r in read_journal(path)[0]] == ["c0", "c1"]


def test_the_last_attempt_counts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    journal = Journal(run / "results.jsonl")
    journal.append([record(status="failed", metric="", error="Traceback\nValueError: no")])
    journal.append([record(cell="c1")])
    journal.append([record(attempts=2, metric="a"), record(attempts=2, metric="b")])
    journal.close()
    assert [(r.cell, r.attempts) for r in latest(read_journal(run / "results.jsonl")[0])] == [
        ("c1", 1),
        ("c0", 2),
        ("c0", 2),
    ]
    table = load_results(run)
    assert tuple(table.columns) == COLUMNS
    assert list(table["status"]) == ["ok", "ok", "ok"]
    assert set(table["run"]) == {"run"}


def test_results_of_several_runs_and_of_none(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        journal = Journal(tmp_path / name / "results.jsonl")
        journal.append([record(value=1.0 if name == "a" else 2.0, undefined=3)])
        journal.close()
    table = load_results([tmp_path / "a", str(tmp_path / "b")], details=True)
    assert list(table["run"]) == ["a", "b"]
    assert list(table["value"]) == [1.0, 2.0]
    assert list(table["undefined"]) == [3, 3]
    with pytest.raises(RunFolderError, match="is not a run folder"):
        load_results(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "results.jsonl").touch()
    assert tuple(load_results(tmp_path / "c").columns) == COLUMNS


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", None), ("seed", None), ("attempts", "x"), ("metric", None), ("sparsity", None), ("status", None),
     ("status", "fine"), ("part", 0), ("parts", True), ("higher_is_better", "yes"), ("value", [1])],
)  # fmt: skip
def test_lines_of_the_wrong_type_are_damage(field: str, value: object, tmp_path: Path) -> None:
    lines = [json.dumps({**record(cell=f"c{i}").to_json(), **({field: value} if i == 1 else {})}) for i in range(3)]
    (tmp_path / "r.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(RunFolderError, match=r"r\.jsonl:2: damaged"):
        read_journal(tmp_path / "r.jsonl")
