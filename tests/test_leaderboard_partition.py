"""Rows that may be compared, found by a fast method, against the rule written out plainly."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kit.boards import boards_of, record

from pruningbench.leaderboard.measurements import Line, Measurements
from pruningbench.leaderboard.partition import partition

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "suite": st.just("s"), "run": st.sampled_from("rq"), "cell": st.sampled_from("xyz"), "model": st.just("m"),
            "pruner": st.sampled_from("ab"), "recipe": st.just("none"), "sparsity": st.sampled_from([0.5, 0.9]),
            "seed": st.just(0), "status": st.sampled_from(["ok", "ok", "ok", "failed"]), "task": st.sampled_from("tu"),
            "variant": st.just(""), "metric": st.sampled_from(["acc", ""]), "data_fingerprint": st.sampled_from(["1", "2", ""]),
        }
    ),
    max_size=14,
)  # fmt: skip


def facts(row: dict[str, Any]) -> dict[Any, str]:
    """What a row says about data and models; two rows may be compared if they say nothing different."""
    own: dict[Any, str] = {tuple(row[n] for n in ("model", "pruner", "recipe", "sparsity", "seed")): row["cell"]}
    if row["status"] == "ok" and row["metric"]:
        own[row["task"], row["variant"], row["metric"]] = row["data_fingerprint"]
    return own


def agree(one: dict[Any, str], other: dict[Any, str]) -> bool:
    return all(one.get(key, value) == value for key, value in other.items())


def plainly(rows: list[dict[str, Any]]) -> list[list[int]]:
    """The rows of each cell stay together while they agree; pieces join the first that they agree with, run by run."""

    def gather(pieces: list[tuple[dict[Any, str], list[int]]]) -> list[tuple[dict[Any, str], list[int]]]:
        gathered: list[tuple[dict[Any, str], list[int]]] = []
        for own, places in pieces:
            for known, listed in gathered:
                if agree(known, own):
                    known |= own
                    listed += places
                    break
            else:
                gathered.append((dict(own), list(places)))
        return gathered

    runs: dict[str, list[tuple[dict[Any, str], list[int]]]] = {}
    current: dict[tuple[str, str], tuple[dict[Any, str], list[int]]] = {}
    for place, row in enumerate(rows):
        where = (row["run"], row["cell"])
        if where not in current or not agree(current[where][0], facts(row)):
            current[where] = ({}, [])
            runs.setdefault(row["run"], []).append(current[where])
        current[where][0].update(facts(row))
        current[where][1].append(place)
    return [places for _, places in gather([piece for pieces in runs.values() for piece in gather(pieces)])]


def measurements(rows: list[dict[str, Any]]) -> Measurements:
    names = ["suite", "run", "cell", "model", "pruner", "recipe", "sparsity", "seed", "status", "task", "variant", "metric", "data_fingerprint"]  # fmt: skip
    return Measurements({name: [row[name] for row in rows] for name in names}, range(len(rows)))


@given(ROWS)
def test_groups_follow_the_rule(rows: list[dict[str, Any]]) -> None:
    assert [group.places for group in partition(measurements(rows))] == plainly(rows)


def test_as_many_groups_as_cells_take_little_time() -> None:
    rows = [
        {"suite": "s", "run": "r", "cell": f"c{i}", "model": "m", "pruner": f"p{i}", "recipe": "none", "sparsity": 0.5,
         "seed": 0, "status": "ok", "task": "t", "variant": "", "metric": "acc", "data_fingerprint": f"d{i}"}
        for i in range(8_000)
    ]  # fmt: skip
    start = time.process_time()
    assert len(partition(measurements(rows))) == len(rows)
    assert time.process_time() - start < 10  # comparing all pairs takes minutes


def test_a_line_reads_like_a_row() -> None:
    columns = {"a": [1, 2], "b": ["x", "y"]}
    line = Line(columns, 1)
    assert dict(line) == {"a": 2, "b": "y"} == line and line.get("c", 3) == 3 and {**line, "a": 5}["a"] == 5
    listed = Measurements(columns, [1, 0])
    assert [m["a"] for m in listed] == [2, 1] and listed[0]["b"] == "y" and len(listed[1:]) == 1
    assert [m["b"] for m in listed.replaced("b", "")] == ["", ""] and listed.column("b") == ["y", "x"]


def test_other_marks_of_repeats(tmp_path: Path) -> None:
    """Of repeated values the one without a mark counts, else the last one; failures cost no place."""
    first, second = record("a", value=0.25, made_of={"a": "1"}), record("a", value=0.75, made_of={"a": "2"}, stale="x")
    (board,) = boards_of(tmp_path / "one", [first], [second])
    assert board.rows[0].cells[board.columns[0].key].value == 0.25
    (board,) = boards_of(tmp_path / "two", [first], [replace(second, stale="")])
    assert board.rows[0].cells[board.columns[0].key].value == 0.75
