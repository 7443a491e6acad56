"""Tables for terminals: they fit, show what matters first, say how to see the rest, and survive any name."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import boards_of, failure, record
from kit.hostile import harmless

from pruningbench.leaderboard import Board, Column, Entry, Row, render
from pruningbench.leaderboard.layout import Field, cut_to, row_lines, total, width_of
from pruningbench.leaderboard.text import priority, table_lines, terminal_lines

WIDE = [
    *(("sorting", "", metric, "accuracy") for metric in ("accuracy", "loss")),
    *(("maps", variant, metric, "maps") for variant in ("saliency", "lime") for metric in ("gini", "mass", "rank")),
    ("boxes", "", "corloc", "discovery"), ("boxes", "", "iou", "discovery"), ("same", "", "cka", "alignment"),
]  # fmt: skip


def wide(tmp_path: Path) -> list[Board]:
    """Rows of two sparsities in eleven columns of four dimensions."""
    run = [
        record(
            pruner, metric, (i * 7 + j * 3) % 97 / 100, task=task, variant=variant, dimension=dimension, sparsity=sparsity,
            chance=0.1, chance_p=(0.001 if pruner != "weak" else 0.9) if metric == "accuracy" else float("nan"),
        )
        for i, (pruner, sparsity) in enumerate((p, s) for s in (0.5, 0.9) for p in ("magnitude(allocation=erk)", "weak", "b"))
        for j, (task, variant, metric, dimension) in enumerate(WIDE)
    ]  # fmt: skip
    return boards_of(tmp_path, run)


@pytest.mark.parametrize("width", [50, 60, 70, 80, 100, 120, 140, 250])
def test_one_table_that_fits(width: int, tmp_path: Path) -> None:
    (board,) = wide(tmp_path)
    lines = render([board], "table", width=width).splitlines()
    assert max(map(width_of, lines)) <= width
    assert sum("─" in line for line in lines) == 1  # one block for the only model: no second page
    left_out = [line for line in lines if " columns fit. " in line]
    assert bool(left_out) == (width < 120)
    if left_out:
        assert "More: --columns all or NAMES. Fewer rows: --where." in " ".join(lines)


def test_the_main_metric_of_each_dimension_comes_first(tmp_path: Path) -> None:
    (board,) = wide(tmp_path)
    first = [column.metric for column in priority(board.columns)[:4]]
    assert first == ["accuracy", "gini", "corloc", "cka"]
    assert sorted(c.key for c in priority(board.columns)) == sorted(c.key for c in board.columns)
    text = render([board], "table", width=80)
    shown = text.split("Columns: ")[1].split("columns fit")[0]
    assert all(metric in shown for metric in first) and "Not shown: " in text


def test_columns_without_dimensions_are_chosen_by_task() -> None:
    columns = [Column(task, "", metric, metric, True, "", (0, 1), "") for task in "ab" for metric in "xyz"]
    assert [(c.task, c.metric) for c in priority(columns)] == [(t, m) for m in "xyz" for t in "ab"]


def test_all_columns_stand_in_several_tables(tmp_path: Path) -> None:
    (board,) = wide(tmp_path)
    text = render([board], "table", width=70, all_columns=True)
    assert text.count("─ ") + text.count("─\n") > 1 and "columns fit" not in text
    assert max(map(width_of, text.splitlines())) <= 70


def test_collapsed_rows_are_told_apart_and_never_ranked(tmp_path: Path) -> None:
    (board,) = wide(tmp_path)
    lines = table_lines(board, 120)
    assert [("weak" in line) for line, light in lines if light] == [True, True]
    assert all(row.rank is None for row in board.rows if row.collapsed) and any(row.collapsed for row in board.rows)
    assert all("†" in line for line, light in lines if light)


def test_points_of_a_column_stand_below_each_other(tmp_path: Path) -> None:
    (board,) = wide(tmp_path)
    rows = [line for line, _ in table_lines(board, 140) if line.lstrip().startswith(("50%", "90%"))]
    places = {tuple(i for i, c in enumerate(line.split("|", 1)[1]) if c == ".") for line in rows}
    assert len(rows) == 6 and len(places) == 1


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=5))
def test_fields_are_aligned_by_what_a_terminal_shows(texts: list[str]) -> None:
    texts = [text for text in texts if text.isprintable()] or ["a"]
    fields = [
        Field(["h"], texts, "left"),
        Field(["h"], ["|"] * len(texts), "left"),
        Field(["h"], ["1"] * len(texts), "right"),
    ]
    lines = row_lines(fields)
    assert {width_of(line[: line.rindex("|")]) for line in lines} == {total(fields) - 3}
    assert all(width_of(cut_to(text, 3)) <= 3 for text in texts)


def test_wide_and_combining_characters_keep_the_bars_in_line(tmp_path: Path) -> None:
    names = ["plain", "剪枝方法", "e\u0301" * 3, "שלום", "a\u0301\u0302\u0303" * 200, "\u202eevil"]
    run = [
        record(name, metric, task=task) for name in names for task, metric in (("s", "精度精度精度精度"), ("t", "m"))
    ]
    text = render(boards_of(tmp_path, run), "table", width=80)
    rows = [line for line in text.splitlines() if line.startswith("  50%")]
    assert len(rows) == len(names) and all(map(harmless, text.splitlines()))
    bars = {tuple(width_of(line[:i]) for i, c in enumerate(line) if c == "|") for line in rows}
    assert len(bars) == 1 and max(map(width_of, text.splitlines())) <= 80


def test_ten_thousand_metrics_take_little_time() -> None:
    columns = tuple(Column("t", "", f"metric-{i}", f"metric-{i}", True, "", (0, 1), "d") for i in range(10_000))
    cells = {column.key: Entry(0.5, 0.4, 0.6, 9, 1) for column in columns}
    board = Board("many", ("s",), columns, tuple(Row("m", p, "none", 0.5, 0.5, (0,), 1.0, cells) for p in "ab"), (), ())
    start = time.process_time()
    text = render([board], "table", width=80)
    assert time.process_time() - start < 5  # a quadratic layout takes minutes
    assert "of 10000 columns fit" in text and "and 9" in text and len(text) < 6_000


def test_names_of_ten_thousand_characters_are_cut_and_stay_apart(tmp_path: Path) -> None:
    long = "x" * 10_000
    run = [
        record(f"{long}{i}{long}", long, model=long, task=long, variant=long, recipe=long, suite=long) for i in range(3)
    ]
    run += [failure(long, long, task=long)]
    text = render(boards_of(tmp_path, run), "table", width=80)
    assert len(text) < 12_000
    pruners = [line.split()[1] + line.split()[2] for line in text.splitlines() if line.startswith("  50%")]
    assert len(set(pruners)) == 3


def test_boards_follow_each_other_with_their_findings(tmp_path: Path) -> None:
    boards = boards_of(tmp_path, [record("a")], [record("b", data_fingerprint="d2")])
    text = "\n".join(line for line, _ in terminal_lines(boards, 80))
    assert text.count("small (data of sorting") == 2
    assert terminal_lines([]) == [("No results.", False)]


@pytest.mark.parametrize(
    ("environment", "grey"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_light_lines_are_grey_on_a_terminal_only(environment: dict[str, str], grey: bool) -> None:
    code = "from pruningbench.cli.common import say_lines; say_lines([('a \\x1b[31m', True), ('b', False)])"
    command = [sys.executable, "-c", code]
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    env = {**clean, "TERM": "xterm", **environment}
    piped = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert piped == "a \\x1b[31m\nb\n"
    main, terminal = pty.openpty()
    subprocess.run(command, env=env, stdout=terminal, check=True)
    shown = os.read(main, 1000).decode().replace("\r\n", "\n")
    os.close(main), os.close(terminal)
    assert shown == ("\x1b[2ma \\x1b[31m\x1b[0m\nb\n" if grey else piped)
