"""Long form: Parquet and CSV hold the same values, Parquet with their types."""

from __future__ import annotations

import csv
import io
import math
import sys
from pathlib import Path

import pytest
from kit.boards import boards_of, record

from pruningbench.errors import UsageError
from pruningbench.leaderboard import Board, render
from pruningbench.leaderboard.longform import LONG_FORM, REAL, TEXT, TRUTH, WHOLE, long_form, parquet_bytes
from pruningbench.leaderboard.results import load_results


def table(tmp_path: Path) -> list[Board]:
    run = [
        record("dense", sparsity=0.0),
        record("=evil\x1b", value=math.nan, n=0),
        record("b", "loss", -math.inf, higher_is_better=False),
    ]
    run += [record("c", seed=seed, value=1 / 3 + seed, ties=0.5, chance=0.25, chance_p=0.9) for seed in (0, 1)]
    run += [record("d", "gini", higher_is_better=None, unit="", degenerate=3)]
    return boards_of(tmp_path, run)


def read(content: bytes) -> tuple[dict[str, str], list[dict[str, object]]]:
    from pyarrow import parquet

    stored = parquet.read_table(io.BytesIO(content))
    return {field.name: str(field.type) for field in stored.schema}, stored.to_pylist()


def test_every_value_reads_back_with_its_type(tmp_path: Path) -> None:
    boards = table(tmp_path)
    types, rows = read(parquet_bytes(boards))
    names = {TEXT: "string", REAL: "double", WHOLE: "int64", TRUTH: "bool"}
    assert types == {name: names[kind] for name, kind in LONG_FORM.items()}
    expected = [dict(zip(LONG_FORM, line, strict=True)) for line in long_form(boards)]
    assert repr(rows) == repr(expected) and len(rows) == 5
    by_pruner = {row["pruner"]: row for row in rows}
    assert math.isnan(by_pruner["=evil\x1b"]["value"]) and by_pruner["b"]["value"] == -math.inf  # type: ignore[arg-type]
    assert by_pruner["c"]["collapsed"] is True and by_pruner["c"]["rank"] is None and by_pruner["d"]["degenerate"] == 3


def test_csv_has_the_same_lines(tmp_path: Path) -> None:
    boards = table(tmp_path)
    lines = list(csv.DictReader(io.StringIO(render(boards, "csv"))))
    _, rows = read(parquet_bytes(boards))
    assert [list(line) for line in lines] == [list(LONG_FORM)] * len(rows)
    for line, row in zip(lines, rows, strict=True):
        for name, kind in LONG_FORM.items():
            if kind == TEXT:
                continue
            text = "" if row[name] is None else repr(row[name])
            assert line[name] == text, name


def test_further_columns_keep_numbers_and_texts(tmp_path: Path) -> None:
    from pruningbench.leaderboard import build

    table(tmp_path)
    boards = build(load_results(tmp_path / "run0", details=True), columns=["achieved", "seconds"])
    types, rows = read(parquet_bytes(boards))
    assert types["achieved"] == "string" and types["seconds"] == "double"
    assert {row["achieved"] for row in rows} == {"0%", "50%"}


def test_nothing_is_an_empty_table() -> None:
    types, rows = read(parquet_bytes([]))
    assert list(types) == list(LONG_FORM) and rows == []


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'pruningbench\[hub\]'"):
        parquet_bytes([])
