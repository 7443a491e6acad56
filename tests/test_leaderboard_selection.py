"""Conditions, sorting and choosing columns: what is shown, what is refused, and what stays as it was."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import boards_of, failure, record, write_run

from pruningbench.cli.main import cli, guarded
from pruningbench.errors import UsageError
from pruningbench.leaderboard import Board, render
from pruningbench.leaderboard.conditions import DEEPEST, LONGEST, Value, names_in, parse_condition
from pruningbench.leaderboard.labels import split_labels
from pruningbench.leaderboard.selection import parse_sort, select

ROW: dict[str, Value] = {
    "sparsity": 0.9, "model": "digits-vit", "pruner": "magnitude(a=1, b=x)", "collapsed": False, "dense": True,
    "accuracy": 0.75, "nothing": None, "undefined": math.nan, "linear probe": 0.5, "or der": "and",
}  # fmt: skip


def holds(text: str) -> bool:
    return parse_condition(text)(ROW.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sparsity>=.9", True), ("sparsity > 90%", False), ("sparsity=90%", True), ("sparsity==0.9", True),
        ("sparsity != .9", False), ("sparsity<1 and accuracy<=.75", True), ("sparsity<.5 or accuracy>.7", True),
        ("model=digits-vit", True), ("model != digits-vit", False), ("model~VIT", True), ('model="digits-vit"', True),
        ("pruner=magnitude(a=1, b=x)", True), ("pruner ~ 'a=1'", True), ("pruner~(", None),
        ("dense", True), ("collapsed", False), ("collapsed=no", True), ("dense != yes", False), ("dense=TRUE", True),
        ("dense and collapsed or accuracy>0", True), ("dense and (collapsed or accuracy>9)", False),
        ("((sparsity>0))", True), ("DENSE", None), ("dense AND sparsity>0", True), ("linear probe=.5", True),
        ("nothing>0", False), ("nothing!=5", False), ("nothing", False), ("undefined>0", False), ("undefined!=0", False),
        ("'or der'=and", True), ("sparsity>-1e3", True), ("sparsity<inf", True),
    ],
)  # fmt: skip
def test_conditions(text: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises((UsageError, KeyError)):
            holds(text)
    else:
        assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at the end: expected a name"), ("sparsity>", "at the end: expected a value"), ("sparsity>=.8 and", "a name"),
        ("(sparsity>1", r"expected `\)`"), ("sparsity>1)", "none is open"), ("model='x", "a closing '"),
        ("sparsity>1 model=x", "character 12.*expected `and`"), ("sparsity>many", "'many' is not a number"),
        ("sparsity~.9", "~ is for text"), ("model<a", "is text: compare it with = != or ~"), ("model", "compare it"),
        ("collapsed=perhaps", "is yes or no"), ("collapsed<1", "is yes or no"), (">5", "expected a name"),
        ("(" * (DEEPEST + 1) + "dense" + ")" * (DEEPEST + 1), "parentheses inside"), ("x" * (LONGEST + 1), "at most"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        holds(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_no_code_is_run() -> None:
    assert names_in(parse_condition("__import__('os').system")) == ["__import__('os').system"]


@given(st.text(st.sampled_from("ab ()='\"!<>~&%.,andor\n\x1b\u202e"), max_size=30) | st.text(max_size=20))
def test_any_text_is_a_condition_or_one_line(text: str) -> None:
    try:
        names_in(parse_condition(text))
    except UsageError as error:
        assert str(error).isprintable()


@given(st.recursive(
    st.sampled_from(["sparsity>.5", "model~digits", "collapsed", "accuracy<=.7"]).map(lambda t: (t, None)),
    lambda part: st.tuples(st.sampled_from(["and", "or"]), st.lists(part, min_size=2, max_size=3)), max_leaves=8,
))  # fmt: skip
def test_and_binds_more_than_or(tree: tuple[str, list | None]) -> None:  # type: ignore[type-arg]
    """Written without parentheses where they are not needed, a condition holds as Python's own expression does."""
    truth = {"sparsity>.5": "True", "model~digits": "True", "collapsed": "False", "accuracy<=.7": "False"}

    def written(node: tuple[str, list | None], python: bool) -> str:  # type: ignore[type-arg]
        word, parts = node
        if parts is None:
            return truth[word] if python else word
        texts = [
            f"({text})" if word == "and" and part[0] == "or" else text
            for part in parts
            for text in [written(part, python)]
        ]
        return f" {word} ".join(texts)

    assert holds(written(tree, False)) == eval(written(tree, True))  # of True, False, and, or


def table(tmp_path: Path) -> list[Board]:
    run = [
        record("dense", "accuracy", 0.9, sparsity=0.0),
        record("dense", "loss", 0.9, sparsity=0.0, higher_is_better=False),
    ]
    for i, pruner in enumerate(("c", "a", "b")):
        for sparsity in (0.5, 0.9):
            run += [
                record(pruner, "accuracy", 0.1 * (i + 1) * sparsity, sparsity=sparsity, model=model)
                for model in ("net", "vit")
            ]
            run += [record(pruner, "loss", 2.0 + i, sparsity=sparsity, higher_is_better=False)]
    run += [failure("d", "E: no", status="oom"), record("nan", "accuracy", math.nan, n=0)]
    run += [record("a", "map,s(x=1,y=2)", 0.5, task="other", variant="v")]
    return boards_of(tmp_path, run)


def test_rows_are_those_where_the_condition_holds(tmp_path: Path) -> None:
    (board,) = table(tmp_path)
    (shown,) = select([board], where="sparsity>=.9 and model=net")
    assert [(row.model, row.sparsity) for row in shown.rows] == [("net", 0.9)] * 3
    full = {(row.model, row.pruner, row.sparsity): row for row in board.rows}
    assert all(row == full[row.model, row.pruner, row.sparsity] for row in shown.rows)  # ranks as in the whole table
    assert shown.notes[0].startswith(
        "Shown: 3 of 14 rows and 0 of 1 task runs without values, where sparsity>=.9 and model"
    )
    assert "those of the whole table" in render([shown], "table") and "those of the whole table" in render(
        [shown], "latex"
    )
    assert shown.columns == board.columns


def test_status_shows_failures(tmp_path: Path) -> None:
    (board,) = table(tmp_path)
    (shown,) = select([board], where="status != ok")
    assert not shown.rows and [failure.status for failure in shown.failed] == ["oom"]
    assert "1 oom" in render([shown], "table")
    assert not select([board], where="status=ok")[0].failed


def test_metrics_can_be_conditions(tmp_path: Path) -> None:
    (board,) = table(tmp_path)
    (shown,) = select([board], where="loss>=3 and accuracy<.2")
    assert {(row.pruner, row.sparsity) for row in shown.rows} == {("a", 0.5), ("a", 0.9), ("b", 0.5)} - {
        (row.pruner, row.sparsity) for row in board.rows if row.cells[board.columns[0].key].value >= 0.2
    }


@pytest.mark.parametrize(
    ("sort", "pruners"),
    [
        ("pruner", ["a", "a", "b", "b", "c", "c", "dense", "nan"]), ("loss", ["dense", "c", "c", "a", "a", "b", "b", "nan"]),
        ("loss:desc", ["b", "b", "a", "a", "c", "c", "dense", "nan"]),
        ("accuracy", ["dense", "b", "a", "b", "a", "c", "c", "nan"]),
        ("accuracy:asc", ["c", "c", "a", "b", "a", "b", "dense", "nan"]),
    ],
)  # fmt: skip
def test_sorting_within_a_model(sort: str, pruners: list[str], tmp_path: Path) -> None:
    (board,) = select(table(tmp_path), sort=sort)
    models = [row.model for row in board.rows]
    assert models == sorted(models)
    got = [row.pruner for row in board.rows if row.model == "net"]
    assert [p for p in got if p != "nan"] == pruners[:-1] and (got[-1] == "nan" or sort == "pruner")


def test_a_sorted_table_has_no_lines_between_sparsities(tmp_path: Path) -> None:
    boards = table(tmp_path)
    assert render(boards, "table").count("┄┄┄\n") > render(select(boards, sort="pruner"), "table").count("┄┄┄\n") == 2


def test_columns_by_every_name(tmp_path: Path) -> None:
    boards = table(tmp_path)
    for names, metrics in [
        (["loss"], ["loss"]), (["loss", "accuracy"], ["loss", "accuracy"]), (["sorting"], ["accuracy", "loss"]),
        (["sorting loss", "v"], ["loss", "map,s(x=1,y=2)"]), (["map,s(x=1,y=2)"], ["map,s(x=1,y=2)"]),
    ]:  # fmt: skip
        assert [column.metric for column in select(boards, columns=names)[0].columns] == metrics
    with pytest.raises(UsageError, match="'acuracy'; did you mean 'accuracy'"):
        select(boards, columns=["acuracy"])
    for request in ({"where": "acuracy>1"}, {"sort": "acuracy"}):
        with pytest.raises(UsageError, match="did you mean 'accuracy'"):
            select(boards, **request)


def test_a_name_of_several_metrics_is_refused(tmp_path: Path) -> None:
    boards = boards_of(tmp_path, [record("a", task=task) for task in ("one", "two")])
    with pytest.raises(UsageError, match="stands for 2 columns: write one of one accuracy, two accuracy"):
        select(boards, where="accuracy>0")
    assert len(select(boards, where="one accuracy>0")[0].rows) == 1


def test_sorts() -> None:
    assert parse_sort("a:b").name == "a:b" and parse_sort("a:DESC").descending is True
    with pytest.raises(UsageError, match="needs the name"):
        parse_sort(":desc")


@pytest.mark.parametrize(
    ("text", "labels"),
    [("a, b", ["a", "b"]), ("a(x=1,y=2),b", ["a(x=1,y=2)", "b"]), ('a(x="),(")', ['a(x="),(")']), (" , ", []), ("a)b,c", ["a)b", "c"])],
)  # fmt: skip
def test_labels_are_split_at_their_commas(text: str, labels: list[str]) -> None:
    assert split_labels(text) == labels


def test_metrics_that_apply_to_nothing_keep_their_commas(tmp_path: Path) -> None:
    (board,) = boards_of(tmp_path, [record("a", inapplicable="point(k=1, j=2), other")])
    assert board.notes == (
        "point(k=1, j=2) applies to nothing that sorting yields.",
        "other applies to nothing that sorting yields.",
    )


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = [
        record(p, m, v, sparsity=s)
        for p, v in (("a", 0.5), ("b", 0.7))
        for s in (0.5, 0.9)
        for m in ("accuracy", "loss")
    ]
    folder = str(write_run(tmp_path / "r", run))

    def code(*options: str) -> object:
        return guarded(lambda: cli.main(["leaderboard", folder, *options], standalone_mode=False))

    def out(*options: str) -> str:
        assert code(*options) == 0
        return capsys.readouterr().out

    lines = list(
        csv.DictReader(io.StringIO(out("--format", "csv", "--where", "sparsity=90%", "--columns", "loss,achieved")))
    )
    assert [(line["pruner"], line["metric"], line["achieved"]) for line in lines] == [
        ("b", "loss", "90%"),
        ("a", "loss", "90%"),
    ]
    (board,) = json.loads(out("--format", "json", "--sort", "accuracy"))
    assert [row["pruner"] for row in board["rows"]] == ["b", "b", "a", "a"]
    assert max(map(len, out("--width", "60").splitlines())) <= 60
    assert out("--columns", "all") == out("--columns", "accuracy,loss")
    for options in (["--where", "x="], ["--columns", "nothing"], ["--sort", "?"], ["--format", "parquet"]):
        assert code(*options) == 2
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out
