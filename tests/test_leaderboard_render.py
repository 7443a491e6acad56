"""Boards as text: what is written is read back and compared."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
from kit.boards import boards_of, failure, record

from pruningbench.contract.reporting import percent
from pruningbench.errors import UsageError
from pruningbench.leaderboard import Board, render, render_failures
from pruningbench.leaderboard.labels import compact, cut, elide, safe_name, wrap
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.store.records import Record

METRICS = [
    ("classification", "", "accuracy", True), ("transfer", "knn", "accuracy", True),
    ("transfer", "linear-probe", "accuracy", True),
    *(("interpretability", variant, metric, {"gini": None, "deletion": False}.get(metric, True))
      for variant in ("saliency", "integrated-gradients")
      for metric in ("gini", "relevance-mass", "relevance-rank", "deletion")),
    ("discovery", "", "corloc", True), ("discovery", "", "best-iou", True),
]  # fmt: skip
PRUNERS = ("random", "magnitude", "magnitude(allocation=uniform)", "magnitude(allocation=erk)")


def quickstart() -> list[Record]:
    """66 cells with 13 metrics each; the values are all different."""
    cells = []
    for model in ("digits-resnet", "digits-vit"):
        cells.append((model, "dense", "none", 0.0))
        for pruner in PRUNERS:
            for recipe in ("none", "finetune"):
                cells += [(model, pruner, recipe, sparsity) for sparsity in (0.5, 0.8, 0.9, 0.95)]
    run = []
    for i, (model, pruner, recipe, sparsity) in enumerate(cells):
        for j, (task, variant, metric, direction) in enumerate(METRICS):
            run.append(
                record(
                    pruner, metric, (i * 13 + j * 7) % 858 / 860, model=model, recipe=recipe, sparsity=sparsity,
                    task=task, variant=variant, higher_is_better=direction,
                )
            )  # fmt: skip
    return run


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> list[Board]:
    return boards_of(tmp_path_factory.mktemp("quickstart"), quickstart())


LINE = re.compile(r"^\s*(\d[\d.]*)%\s+(\S+)\s+(\S+)\s+(?:(\d+\.\d\d)\s+)?\|(.*)$")


def numbers_in(line: str) -> list[tuple[float, bool]]:
    """Return the values of a row of the table, and whether each is marked as the best."""
    return [(float(cell.lstrip("*").split("±")[0]), cell.startswith("*")) for cell in line.replace("|", " ").split()]


def test_table_of_the_quickstart_says_every_value(boards: list[Board]) -> None:
    text = render(boards, "table")
    assert max(map(len, text.splitlines())) <= 140
    parsed = [match for match in map(LINE.match, text.splitlines()) if match]
    assert len(parsed) == len(boards[0].rows) == 66
    for match, row in zip(parsed, boards[0].rows, strict=True):
        assert float(match[1]) == pytest.approx(100 * row.sparsity)
        assert match[2] == row.pruner.replace("allocation=", "") and match[3] == row.recipe
        assert match[4] == (None if row.rank is None else f"{row.rank:.2f}")
        for (value, marked), column in zip(numbers_in(match[5]), boards[0].columns, strict=True):
            entry = row.cells[column.key]
            assert value == pytest.approx(entry.value, abs=5.01e-4)
            assert marked == entry.best


def test_table_is_aligned_and_bars_stand_below_each_other(boards: list[Board]) -> None:
    lines = render(boards, "table").splitlines()
    rows = [line for line in lines if LINE.match(line)]
    bars = {tuple(i for i, c in enumerate(line) if c == "|") for line in rows}
    assert len(bars) == 1 and len(bars.pop()) == 5  # classification, transfer, two methods, discovery
    assert len({len(line.rstrip()) for line in rows}) == 1


@pytest.mark.parametrize("width", [70, 80, 100, 120, 200])
def test_narrow_terminals_get_all_columns_in_several_tables_if_asked(boards: list[Board], width: int) -> None:
    text = render(boards, "table", width=width, all_columns=True)
    assert max(map(len, text.splitlines())) <= width
    found: dict[tuple[str, ...], list[float]] = {}
    model = ""
    for line in text.splitlines():
        if "─" in line:
            model = line.split()[0]
        match = LINE.match(line)
        if match:
            found.setdefault((model, *match.groups()[:3]), []).extend(value for value, _ in numbers_in(match[5]))
    assert len(found) == 66
    assert all(len(values) == 13 for values in found.values())


def test_every_column_is_spelt_out(boards: list[Board]) -> None:
    legend = " ".join(render(boards, "table").split("Columns: ")[1].split())
    assert "transfer (linear-probe): accuracy" in legend
    assert "interpretability (integrated-gradients): gini, relevance-mass, relevance-rank, deletion" in legend
    assert "[all: fraction]" in legend


def test_few_metrics_come_with_intervals(tmp_path: Path) -> None:
    board = boards_of(tmp_path, [record("a", value=0.5), record("b", value=0.25, ci_low=0.2, ci_high=0.25)])
    text = render(board, "table")
    assert "*.500±.100" in text and " .250±.025" in text and "±: half the 95 % interval" in text
    assert "±" not in render(board, "table", width=34)
    markdown = render(board, "markdown")
    assert "**.500**<br><sub>.400 … .600</sub>" in markdown


def test_missing_and_undefined_values_look_different(tmp_path: Path) -> None:
    run = [record("a"), record("a", "loss", 2.0, higher_is_better=False), record("b", value=math.nan, n=0)]
    text = render(boards_of(tmp_path, run), "table")
    line = next(line for line in text.splitlines() if " b " in line)
    assert line.replace("|", " ").split()[-2:] == ["nan", "-"]
    assert "nan: undefined" in text and "-: not measured" in text


def markdown_rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]


def test_markdown_is_a_table_for_each_model(boards: list[Board]) -> None:
    text = render(boards, "markdown")
    rows = markdown_rows(text)
    assert len(rows) == 66 + 2 * 2 and {len(row) for row in rows} == {17}
    assert rows[0][4:7] == ["classification accuracy ↑", "knn accuracy ↑", "linear-probe accuracy ↑"]
    assert "saliency deletion ↓" in rows[0] and "saliency gini" in rows[0]
    body = [row for row in rows if row[0].endswith("%")]
    for cells, row in zip(body, boards[0].rows, strict=True):
        for cell, column in zip(cells[4:], boards[0].columns, strict=True):
            entry = row.cells[column.key]
            assert cell.startswith("**") == cell.endswith("**") == entry.best
            assert float(cell.strip("*")) == pytest.approx(entry.value, abs=5.01e-4)


def test_both_legends_state_the_rank_that_is_shown(tmp_path: Path) -> None:
    """A wins the task of one column, B the three columns of the other: equal by tasks, not by columns."""
    run = [record(pruner, value=value, task="one") for pruner, value in (("a", 0.9), ("b", 0.1))]
    run += [
        record(pruner, metric, value, task="three")
        for pruner, value in (("a", 0.1), ("b", 0.9))
        for metric in ("x", "y", "z")
    ]
    board = boards_of(tmp_path, run)
    assert [row.rank for row in board[0].rows] == [1.5, 1.5]
    by_tasks = "mean over the tasks, and within a task over its columns with an arrow"
    for text in (render(board, "table"), render(board, "markdown")):
        assert text.count("1.50") == 2
        assert f"ank: place (1 = best) among the rows of the same model and sparsity: {by_tasks}" in " ".join(
            text.split()
        )


def test_markdown_labels_end_no_cell(tmp_path: Path) -> None:
    text = render(boards_of(tmp_path, [record("a|b\n<c>", model="m|\n#n")]), "markdown")
    assert {len(row) for row in markdown_rows(text)} == {5}
    assert "a\\|b &lt;c>" in text and "m\\| #n" in text


def test_csv_reads_back_exactly(boards: list[Board]) -> None:
    text = render(boards, "csv")
    assert not text.endswith("\n")
    table = list(csv.DictReader(io.StringIO(text)))
    assert len(table) == 66 * 13
    expected = [
        (row.model, row.pruner, row.recipe, *column.key, row.sparsity, entry.value, entry.low, entry.high, entry.n)
        for row in boards[0].rows
        for column in boards[0].columns
        for entry in [row.cells[column.key]]
    ]
    names = ["model", "pruner", "recipe", "task", "variant", "metric"]
    floats = ["sparsity", "value", "ci_low", "ci_high", "n"]
    assert [(*(line[k] for k in names), *(float(line[k]) for k in floats)) for line in table] == expected
    assert {line["sparsity"] for line in table if line["rank"]} == {"0.5", "0.8", "0.9", "0.95"}
    assert {line["higher_is_better"] for line in table} == {"True", "False", ""}


def test_csv_quotes_labels_and_keeps_nan(tmp_path: Path) -> None:
    label = 'odd(a=1,b="x")\nsecond line'
    text = render(boards_of(tmp_path, [record(label, value=math.nan, ci_low=math.nan, n=0)]), "csv")
    header, line = csv.reader(io.StringIO(text))
    values = dict(zip(header, line, strict=True))
    assert values["pruner"] == label and values["value"] == "nan" and values["n"] == "0" and values["seeds"] == "0"


def test_json_is_strict_and_exact(boards: list[Board], tmp_path: Path) -> None:
    (board,) = json.loads(render(boards, "json"), parse_constant=pytest.fail)
    assert len(board["columns"]) == 13 and len(board["rows"]) == 66
    for row, values in zip(boards[0].rows, board["rows"], strict=True):
        assert values["rank"] == row.rank and values["pruner"] == row.pruner
        entries = list(row.cells.values())
        assert [cell["value"] for cell in values["cells"]] == [entry.value for entry in entries]
        assert [cell["ci_high"] for cell in values["cells"]] == [entry.high for entry in entries]
    odd = [record("a", value=math.nan, ci_low=math.nan, n=0), record("b", "loss", math.inf), failure("c", "E: no")]
    (board,) = json.loads(render(boards_of(tmp_path, odd), "json"), parse_constant=pytest.fail)
    cells = {row["pruner"]: row["cells"] for row in board["rows"]}
    assert cells["a"][0]["value"] is None and cells["a"][1] is None and cells["b"][1]["value"] == "inf"
    assert board["failed"][0]["error"] == "E: no"


def test_failures_are_a_list(tmp_path: Path) -> None:
    run = [
        record("a"),
        failure("b", "Traceback\nValueError: bad"),
        failure("c", f"x\nE: {'y' * 300}", status="crashed"),
    ]
    boards = boards_of(tmp_path, run)
    lines = render_failures(boards, width=120).splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= 120
    assert lines[2].split() == ["net", "b", "none", "50%", "0", "sorting", "failed", "ValueError:", "bad"]
    assert "crashed" in lines[3] and lines[3].endswith("…")
    assert "1 failed, 1 crashed" in render(boards, "table") and "1 failed, 1 crashed" in render(boards, "markdown")
    assert render_failures(boards_of(tmp_path / "fine", [record("a")])) == ""


def test_nothing_to_show(tmp_path: Path) -> None:
    assert render([], "table") == render([], "markdown") == "No results."
    assert json.loads(render([], "json")) == []
    assert render([], "csv").count("\n") == 0
    failed = boards_of(tmp_path, [failure("a")])
    for format_ in ("table", "markdown"):
        assert "1 failed" in render(failed, format_)
    with pytest.raises(UsageError, match="did you mean 'markdown'"):
        render([], "markdwn")


def test_boards_on_other_data_stand_apart(tmp_path: Path) -> None:
    boards = boards_of(tmp_path, [record("a")], [record("b", data_fingerprint="d2")])
    for format_ in ("table", "markdown"):
        first, second = render(boards, format_).split("small (data of sorting d2)")
        assert "small (data of sorting d1)" in first and " a " in first and " b " in second


def test_labels_are_shortened_without_confusion() -> None:
    assert compact(PRUNERS)["magnitude(allocation=erk)"] == "magnitude(erk)"
    assert compact(["snip(batches=4)", "x(flag=True,how=none)"])["snip(batches=4)"] == "snip(batches=4)"
    assert compact(["x(flag=True,how=none)"]) == {"x(flag=True,how=none)": "x(flag=True,how=none)"}
    assert compact(["p(a=x)", "p(b=x)"]) == {"p(a=x)": "p(a=x)", "p(b=x)": "p(b=x)"}
    long = ["a" * 30 + "1" + "b" * 30, "a" * 30 + "2" + "b" * 30]
    assert list(compact(long).values()) == long
    assert compact(["a\nb"]) == {"a\nb": "a b"}
    assert elide("abcdefgh", 5) == "ab…gh"


def test_names_are_wrapped() -> None:
    assert wrap("relevance-mass", 6) == ["relev.", "mass"]
    assert wrap("relevance-mass", 20) == ["relevance-mass"]
    assert wrap("best-iou", 5) == ["best", "iou"]
    assert wrap("a_b c-d", 3) == ["a_b", "c-d"]
    assert wrap("", 5) == []
    assert cut("accuracy", 5) == "accu."


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (["maps", "magnitude(allocation=erk)"], "maps-magnitude-allocation-erk"),
        (["../../etc", "passwd\0"], "etc-passwd"),
        (["é", ""], "figure"),
        (["a.b_c", "D"], "a.b_c-D"),
    ],
)
def test_file_names_are_safe(parts: list[str], name: str) -> None:
    assert safe_name(parts) == name
    assert len(safe_name(["x" * 500])) == 120


def test_numbers() -> None:
    assert [number(v, 3) for v in (0.9123, -0.05, 1.0, math.nan)] == [".912", "-.050", "1.000", "nan"]
    assert [decimals_for([v]) for v in (0.5, 12.0, 120.0, 5000.0, 2e7, 1e-4)] == [3, 2, 1, 0, None, None]
    assert decimals_for([0.0, math.nan]) == 3
    assert number(2e7, None) == "2.00e+07"
    assert [percent(s) for s in (0.0, 0.5, 0.995, 0.9)] == ["0%", "50%", "99.5%", "90%"]
