"""Boards: averages over seeds, ranks, and what may not be compared."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import boards_of, failure, record, write_run
from scipy import stats
from scipy.stats import rankdata

from pruningbench.leaderboard import Board, Row, build
from pruningbench.leaderboard.aggregation import average
from pruningbench.leaderboard.ranking import best_of, mean_ranks, ranks
from pruningbench.leaderboard.results import load_results
from pruningbench.store.records import Record


def row(board: Board, pruner: str, **wanted: object) -> Row:
    found = [r for r in board.rows if r.pruner == pruner and all(getattr(r, k) == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


ACCURACY = ("sorting", "", "accuracy")
LOSS = ("sorting", "", "loss")


def test_one_seed_keeps_its_bootstrap_interval(tmp_path: Path) -> None:
    (board,) = boards_of(tmp_path, [record(value=0.7, ci_low=0.62, ci_high=0.75, n=33)])
    entry = board.rows[0].cells[ACCURACY]
    assert (entry.value, entry.low, entry.high, entry.n, entry.seeds) == (0.7, 0.62, 0.75, 33, 1)


def test_interval_of_several_seeds_is_the_stated_formula(tmp_path: Path) -> None:
    values, widths = [0.5, 0.6, 0.8], [0.1, 0.2, 0.3]
    run = [
        record(value=v, ci_low=v - w / 2, ci_high=v + w / 2, seed=s, n=90 + s)
        for s, (v, w) in enumerate(zip(values, widths, strict=True))
    ]
    (board,) = boards_of(tmp_path, run)
    only = board.rows[0]
    entry = only.cells[ACCURACY]
    mean = 1.9 / 3
    between = sum((v - mean) ** 2 for v in values) / 2 / 3
    within = sum((w / 3.92) ** 2 for w in widths) / 3
    freedom = (between + within) ** 2 / (between**2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(between + within)
    assert entry.value == pytest.approx(mean)
    assert entry.low == pytest.approx(mean - half)
    assert entry.high == pytest.approx(mean + half)
    assert (entry.n, entry.seeds, only.seeds) == (90, 3, (0, 1, 2))


def test_equal_seeds_keep_the_uncertainty_of_the_samples() -> None:
    one = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 10}
    many = average([one] * 50)
    assert (many.low, many.high) == (pytest.approx(0.4), pytest.approx(0.6))


def test_undefined_seeds_are_left_out_and_said(tmp_path: Path) -> None:
    run = [record(value=0.5, seed=0), record(value=math.nan, seed=1, n=0), record(value=0.7, seed=2)]
    (board,) = boards_of(tmp_path, run)
    entry = board.rows[0].cells[ACCURACY]
    assert (entry.value, entry.seeds) == (pytest.approx(0.6), 2)
    assert any("fewer seeds" in note for note in board.notes)


def test_without_intervals_only_the_seeds_count() -> None:
    nan = math.nan
    measured = [{"value": v, "ci_low": nan, "ci_high": nan, "n": 1} for v in (1.0, 3.0)]
    entry = average(measured)
    assert entry.high - entry.value == pytest.approx(12.706204736 * math.sqrt(2 / 2))  # Student's t, one degree
    three = average([{"value": v, "ci_low": nan, "ci_high": nan, "n": 1} for v in (1.0, 2.0, 3.0)])
    assert three.high - three.value == pytest.approx(4.302652730 * math.sqrt(1 / 3))
    assert math.isnan(average(measured[:1]).low)
    infinite = average([{"value": v, "ci_low": 0.0, "ci_high": 0.0, "n": 1} for v in (math.inf, 1.0)])
    assert infinite.value == math.inf and math.isnan(infinite.low)


def test_ranks_share_places_and_put_nan_last() -> None:
    nan = math.nan
    assert ranks([0.9, 0.5, 0.9, nan, 0.1, nan], True) == [1.5, 3, 1.5, 5.5, 4, 5.5]
    assert ranks([0.9, 0.5, 0.9, nan, 0.1, nan], False) == [3.5, 2, 3.5, 5.5, 1, 5.5]
    assert ranks([math.inf, nan, -math.inf], False) == [2, 3, 1]


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=12), st.booleans())
def test_ranks_equal_scipy(values: list[float], higher: bool) -> None:
    defined = [v for v in values if not math.isnan(v)]
    expected = list(rankdata([-v if higher else v for v in defined]))
    missing = len(values) - len(defined)
    got = ranks(values, higher)
    assert [r for r, v in zip(got, values, strict=True) if not math.isnan(v)] == expected
    assert all(r == len(defined) + (missing + 1) / 2 for r, v in zip(got, values, strict=True) if math.isnan(v))


def test_mean_rank_counts_what_is_lacking_as_last() -> None:
    table = [{"x": 3.0, "y": 1.0}, {"x": 2.0}, {"x": 1.0, "y": 2.0}, {}]
    assert mean_ranks(table, {"x": True, "y": False}, str) == [1.0, (2 + 3.5) / 2, 2.5, None]


def test_a_task_counts_once_however_many_columns_it_has() -> None:
    table = [{("a", 1): 1.0, ("b", 1): 2.0, ("b", 2): 2.0}, {("a", 1): 2.0, ("b", 1): 1.0, ("b", 2): 1.0}]
    directions = dict.fromkeys(table[0], True)
    assert mean_ranks(table, directions, lambda key: key[0]) == [1.5, 1.5]


def test_best_is_marked_where_rows_differ() -> None:
    table = [{"x": 3.0, "y": 1.0, "z": 5.0}, {"x": 3.0, "y": math.nan, "z": 5.0}, {"x": 1.0, "y": 4.0, "z": 5.0}]
    assert best_of(table, {"x": True, "y": False, "z": True}) == [{"x", "y"}, {"x"}, set()]


def test_rank_and_order(tmp_path: Path) -> None:
    run: list[Record] = []
    for model in ("zeta", "alpha"):
        for sparsity in (0.9, 0.5):
            for pruner, accuracy, loss in (("b", 0.5, 1.0), ("c", 0.9, 2.0), ("a", 0.9, 0.5)):
                where = {"model": model, "sparsity": sparsity}
                run += [
                    record(pruner, value=accuracy, **where),
                    record(pruner, "loss", loss, higher_is_better=False, **where),
                    record(pruner, "size", loss, higher_is_better=None, **where),
                ]
        dense = {"model": model, "sparsity": 0.0}
        run += [record("dense", value=1.0, **dense), record("dense", "loss", 0.0, higher_is_better=False, **dense)]
    (board,) = boards_of(tmp_path, run)
    assert [(r.model, r.sparsity, r.pruner) for r in board.rows] == [
        (model, sparsity, pruner)
        for model in ("zeta", "alpha")
        for sparsity, pruners in ((0.0, ["dense"]), (0.5, "acb"), (0.9, "acb"))
        for pruner in pruners
    ]
    # accuracy: a and c share places 1 and 2, b is third; loss: a, b, c; size is not ranked
    expected = {"a": (1.5 + 1) / 2, "b": (3 + 2) / 2, "c": (1.5 + 3) / 2, "dense": None}
    assert all(r.rank == expected[r.pruner] for r in board.rows)
    assert [c.metric for c in board.columns] == ["accuracy", "loss", "size"]
    assert [c.arrow for c in board.columns] == ["↑", "↓", ""]
    best = {(r.pruner, key[2]) for r in board.rows for key, entry in r.cells.items() if entry.best}
    assert best == {("a", "accuracy"), ("c", "accuracy"), ("a", "loss")}
    accuracy, loss, size = board.columns
    assert (accuracy.range, loss.range, size.range) == ((0.5, 1.0), (0.0, 2.0), (0.5, 2.0))
    assert row(board, "b", model="alpha", sparsity=0.9).sparsity_achieved == 0.9


def test_columns_of_a_task_stay_together_also_when_it_failed_first(tmp_path: Path) -> None:
    run = [
        record("a", "m1", task="first"),
        failure("a", task="second"),
        record("a", "m3", task="third"),
        record("b", "m1", task="first"),
        record("b", "m2", task="second", variant="x"),
        record("b", "m2", task="second", variant="y"),
        record("b", "m9", task="second", variant="x"),
        record("b", "m3", task="third"),
    ]
    (board,) = boards_of(tmp_path, run)
    assert [c.key for c in board.columns] == [
        ("first", "", "m1"), ("second", "x", "m2"), ("second", "x", "m9"), ("second", "y", "m2"), ("third", "", "m3"),
    ]  # fmt: skip
    assert [c.header for c in board.columns] == ["m1", "x m2", "m9", "y m2", "m3"]
    assert {key[0] for key in row(board, "a").cells} == {"first", "third"}


def test_failures_are_listed_with_their_last_line(tmp_path: Path) -> None:
    run = [
        record("a"),
        failure("b", "Traceback (most recent call last):\n  File ...\nValueError: scores are NaN\n"),
        failure("c", "", status="oom", seed=3),
    ]
    (board,) = boards_of(tmp_path, run)
    assert [(f.pruner, f.status, f.error, f.seed, f.run) for f in board.failed] == [
        ("b", "failed", "ValueError: scores are NaN", 0, "run0"),
        ("c", "oom", "", 3, "run0"),
    ]
    assert [r.pruner for r in board.rows] == ["a"]


def test_a_failure_measured_in_another_run_is_none(tmp_path: Path) -> None:
    (board,) = boards_of(tmp_path, [failure("a")], [record("a")])
    assert not board.failed
    (board,) = boards_of(tmp_path / "reverse", [record("a")], [failure("a")])
    assert not board.failed and len(board.rows) == 1


def test_nothing_measured(tmp_path: Path) -> None:
    assert build(load_results([])) == []
    (board,) = boards_of(tmp_path, [failure("a")])
    assert (board.rows, board.columns, len(board.failed)) == ((), (), 1)


def test_runs_on_the_same_data_are_put_together(tmp_path: Path) -> None:
    (board,) = boards_of(tmp_path, [record("a", suite="one")], [record("b", value=0.9, suite="two")])
    assert board.title == "one + two" and board.suites == ("one", "two")
    assert [(r.pruner, r.rank) for r in board.rows] == [("b", 1.0), ("a", 2.0)]
    assert not board.notes


def test_the_run_given_last_counts(tmp_path: Path) -> None:
    first = [record("a", value=0.1), record("b", value=0.2)]
    (board,) = boards_of(tmp_path, first, [record("a", value=0.3)])
    assert row(board, "a").cells[ACCURACY].value == 0.3
    assert row(board, "b").cells[ACCURACY].value == 0.2
    assert len(board.notes) == 1 and board.notes[0].startswith("1 measurement was")


def test_other_data_are_never_ranked_together(tmp_path: Path) -> None:
    ours = [record("a", data_fingerprint="f" * 64), record("a", "x", task="same")]
    theirs = [record("a", value=0.9, data_fingerprint="e" * 64), record("a", "x", task="same")]
    boards = boards_of(tmp_path, ours, theirs, [record("b", data_fingerprint="f" * 64)])
    assert [board.title for board in boards] == ["small (data of sorting ffffffffffff)",
                                                 "small (data of sorting eeeeeeeeeeee)"]  # fmt: skip
    assert [[r.pruner for r in board.rows] for board in boards] == [["a", "b"], ["a"]]
    assert not any(board.notes for board in boards)
    assert {c.data_fingerprint for c in boards[1].columns} == {"e" * 64, "d1"}


def test_data_that_changed_during_a_run_split_it(tmp_path: Path) -> None:
    run = [
        record("a"), record("a", "x", task="other"),
        record("b"), failure("b", task="other"),
        record("c", data_fingerprint="d2"), record("c", "x", task="other"),
    ]  # fmt: skip
    boards = boards_of(tmp_path, run)
    assert [[r.pruner for r in board.rows] for board in boards] == [["a", "b"], ["c"]]
    assert all(r.rank == 1 for r in boards[1].rows)


def test_directions_read_back_from_mixed_tables(tmp_path: Path) -> None:
    (board,) = boards_of(
        tmp_path, [record("a", "none", higher_is_better=None), record("a", "down", higher_is_better=False)]
    )
    assert [c.higher_is_better for c in board.columns] == [None, False]
    frame = load_results(tmp_path / "run0")
    frame["higher_is_better"] = frame["higher_is_better"].astype(float)  # None becomes NaN, False 0.0
    (again,) = build(frame)
    assert [c.higher_is_better for c in again.columns] == [None, False]


def test_building_leaves_the_table_alone(tmp_path: Path) -> None:
    frame = load_results(write_run(tmp_path / "run", [record("a"), record("b", "loss", higher_is_better=False)]))
    before = frame.copy(deep=True)
    first, second = build(frame), build(frame)
    assert first == second
    pd.testing.assert_frame_equal(frame, before)


def test_importing_is_cheap() -> None:
    code = (
        "import sys, pruningbench.leaderboard as l, pruningbench.leaderboard.formats\n"
        "assert callable(l.build) and callable(l.render) and callable(l.draw_figures)\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'matplotlib', 'tabulate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
