"""Journals as columns: the fast reader accepts what the slow one accepts, and reads the same values."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.boards import failure, record, write_run
from kit.synthetic import write_synthetic

from pruningbench.errors import RunFolderError
from pruningbench.leaderboard.measurements import Measurements
from pruningbench.leaderboard.results import COLUMNS, DETAILS, OWN, load_measurements, load_results
from pruningbench.store.journal import Journal, read_journal
from pruningbench.store.lines import fast_parser, parse_record
from pruningbench.store.marks import Mark, remark, shown, write_marks
from pruningbench.store.records import NUMBERS, SCHEMA, Record
from pruningbench.store.table import CHUNK, read_table

NAMES = [field.name for field in fields(Record)]
GOOD = [
    record("a").to_json(),
    failure("b", "E: no").to_json(),
    record("é", value=math.inf, made_of={"a": "b"}).to_json(),
]
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5),
    st.sampled_from(["inf", "-inf", "nan", "1e400", "\ud800", 10**400, 1.0, -1, 2**63, 2**63 - 1, [], {}, {"a": 1}, {"a": "b"}]),
)  # fmt: skip


def values_of(line: Any) -> dict[str, Any]:
    """The fields of a record or of a fast line, with NaN for a number without a value."""
    values = {name: getattr(line, name) for name in NAMES}
    return {name: math.nan if name in NUMBERS and value is None else value for name, value in values.items()}


@given(st.sampled_from(GOOD), st.dictionaries(st.sampled_from([*NAMES, "new", "schema"]), ODD, max_size=3))
@example(GOOD[0], {"seed": 1.0})
@example(GOOD[0], {"seed": True})
@example(GOOD[0], {"part": 2, "parts": 1})
@example(GOOD[0], {"sparsity": 1})
@example(GOOD[0], {"seconds": math.inf})
@example(GOOD[0], {"made_of": {"a": 1}})
@example(GOOD[0], {"schema": 1.0})
def test_both_parsers_agree_on_every_line(good: dict[str, Any], changes: dict[str, Any]) -> None:
    line = json.dumps({**good, **changes}).encode() + b"\n"

    def outcome(parse: Any) -> str:
        try:
            parsed = parse(line)
        except RunFolderError as error:
            return str(error)
        return repr(
            None
            if parsed is None
            else {
                k: float(v) if isinstance(v, int) and k in ("sparsity", "seconds", "prepare_seconds") else v
                for k, v in values_of(parsed).items()
            }
        )

    assert outcome(fast_parser()) == outcome(parse_record)


@pytest.mark.parametrize(
    "content", [b"{}", b"[1]\n", b"\xff\n", b"[" * 100_000 + b"\n", b'{"suite": "x"', b"\n", b"nul\n"]
)
def test_both_parsers_refuse_what_is_no_record(content: bytes) -> None:
    assert fast_parser()(content) is None and parse_record(content) is None


def test_the_table_holds_what_the_records_hold(tmp_path: Path) -> None:
    run = [record("a", value=math.nan), record("b", "loss", -math.inf, higher_is_better=False), failure("c", "T\nE: no"),
           record("d", made_of={"model": "x unread"}), record("e", stale="x", higher_is_better=None), record("\udc80")]  # fmt: skip
    write_run(tmp_path / "r", run)
    records, _ = read_journal(tmp_path / "r" / "results.jsonl")
    frame = load_results(tmp_path / "r", details=True)
    assert list(frame.columns) == [*COLUMNS, *DETAILS]
    for name in (*COLUMNS, *DETAILS):
        if name in (*OWN, "dimension"):  # of the folder or the registry, not of the record
            continue
        expected = [getattr(one, name) for one in records]
        expected = [v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for v in expected]
        assert repr(frame[name].tolist()) == repr(expected), name
    assert frame["mark"].tolist() == [remark(one.status, one.stale, one.made_of) for one in records]
    assert frame["mark"].tolist()[3] == "version alone: the code of model cannot be read"


def test_types_do_not_depend_on_the_number_of_rows(tmp_path: Path) -> None:
    few = load_results(write_run(tmp_path / "few", [record("a")]), details=True)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "results.jsonl").touch()
    none = load_results(tmp_path / "none", details=True)
    assert len(none) == 0 and dict(none.dtypes) == dict(few.dtypes)
    assert (
        few["seconds"].dtype == "float64"
        and few["seed"].dtype == "int64"
        and str(few["model"].dtype) == str(pd.Series(["x"]).dtype)
    )


def test_equal_texts_are_one_object_across_chunks(tmp_path: Path) -> None:
    written = write_synthetic(tmp_path, CHUNK + 50)
    table = read_table(tmp_path / "results.jsonl", ["model", "task", "value", "seed"], {})
    assert len(table["value"]) == written > CHUNK
    for name in ("model", "task"):
        assert len({id(text) for text in table[name]}) == len(set(table[name]))


def test_damage_is_named_with_its_line_and_an_unfinished_end_is_left_out(tmp_path: Path) -> None:
    path = write_run(tmp_path / "r", [record(p) for p in "abc"]) / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"cell": 3}\n' + lines[2])
    with pytest.raises(RunFolderError, match=r"results\.jsonl:2: damaged line"):
        load_results(tmp_path / "r")
    path.write_bytes(lines[0] + lines[1] + lines[2][:-5])
    assert load_results(tmp_path / "r")["pruner"].tolist() == ["a", "b"]


@pytest.mark.parametrize("schema", [SCHEMA + 1, 10**400])
def test_lines_of_later_versions_say_update(schema: int, tmp_path: Path) -> None:
    path = write_run(tmp_path / "r", [record("a")]) / "results.jsonl"
    path.write_bytes(
        path.read_bytes() + json.dumps({"schema": schema, "other": []}).encode() + b"\n" + path.read_bytes()
    )
    for read in (lambda: load_results(tmp_path / "r"), lambda: read_journal(path), lambda: Journal(path)):
        with pytest.raises(RunFolderError, match=r"results\.jsonl:2: written by a later version.*update pruningbench"):
            read()


def brute_shown(groups: list[tuple[str, str, int]], marks: dict[tuple[str, str, int], Mark]) -> list[bool]:
    """The rule in words: the last valid attempt, else the last one whose cell was not measured under another key."""
    result = []
    for cell, task, attempt in groups:
        same = [g for g in groups if g[:2] == (cell, task)]
        valid = [g for g in same if g not in marks]
        if valid:
            result.append((cell, task, attempt) == max(valid))
            continue
        last = max(same)
        now = marks[last].cell
        replaced = any(g[:2] == (now, task) and g not in marks for g in groups)
        result.append((cell, task, attempt) == last and not replaced)
    return result


@given(st.data())
def test_the_shown_attempts_follow_the_rule(data: st.DataObject) -> None:
    groups = data.draw(
        st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("ab"), st.integers(1, 3)), max_size=9, unique=True)
    )
    marked = data.draw(st.lists(st.sampled_from(groups), unique=True)) if groups else []
    marks = {group: Mark("w", data.draw(st.sampled_from("xyz"))) for group in marked}
    assert shown(groups, marks) == brute_shown(groups, marks)


def test_marks_reach_the_rows(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [record("a", cell="x"), record("b", cell="y")])
    write_marks(run / "stale.json", {("x", "sorting", 1): Mark("the weights changed", "x")})
    assert load_results(run)["mark"].tolist()[0] == "stale: the weights changed"


def test_measurements_without_pandas_are_those_of_the_table(tmp_path: Path) -> None:
    """One run with a failure and an undefined value, one of another model: texts, numbers, mappings and marks agree."""
    write_run(tmp_path / "a", [record("one", value=math.nan), failure("two"), record("three")])
    write_run(tmp_path / "b", [record("one", model="other")])
    for runs in ([tmp_path / "a"], [tmp_path / "a", tmp_path / "b"]):
        got, expected = load_measurements(runs), Measurements.of(load_results(runs, details=True))
        assert got.columns.keys() == expected.columns.keys()
        assert len(got) == len(expected) > 2
        for name in got.columns:
            assert repr(got.column(name)) == repr(expected.column(name)), name
