"""What the front page says: changes relative to dense, the best pruner, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boards import record, write_run
from kit.paired import correct, dense, measured, write
from kit.smallruns import MODELS, PRUNERS, RECIPES, SPARSITIES, small_run
from scipy.special import erfc
from scipy.stats import binomtest

from pruningbench.leaderboard import Board, build
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.rows import Column, Row
from pruningbench.leaderboard.sweetspots import sweet_spots
from pruningbench.site.answers import Line, common_reference, kept, level, lines_of, main_metrics, scale_of
from pruningbench.site.boards import AT_CHANCE, BEST, BETTER, COLLAPSED, WORSE, board_data
from pruningbench.site.contenders import Contenders, corrected
from pruningbench.site.data import plain
from pruningbench.site.heat import answers
from pruningbench.site.rowruns import runs_of_rows


def column(metric: str = "m", *, task: str = "t", variant: str = "", up: bool | None = True, **other: object) -> Column:
    return Column(task, variant, metric, metric, up, "fraction", (0, 1), "d", **other)  # type: ignore[arg-type]


def row(values: dict[Column, float], *, dense: Row | None = None, half: float = 0.01, **other: object) -> Row:
    cells = {c.key: Entry(v, v - half, v + half, 100, 1) for c, v in values.items()}
    changes = {}
    if dense is not None:
        changes = {k: Entry(c.value - dense.cells[k].value, c.low - dense.cells[k].value, c.high - dense.cells[k].value, 100, 1)
                   for k, c in cells.items() if k in dense.cells}  # fmt: skip
    fields = {"model": "net", "pruner": "a" if dense else "dense", "recipe": "none", "sparsity": 0.5 if dense else 0.0}
    return Row(**{**fields, "sparsity_achieved": 0.5, "seeds": (0,), "rank": None, "cells": cells, "differences": changes,
                  "reference": "none", **other})  # type: ignore[arg-type]  # fmt: skip


def test_main_metrics_are_the_main_one_of_each_variant_or_the_first_with_a_direction() -> None:
    first, main = column("first"), column("main", main=True)
    undirected, fallback = column("u", variant="v", up=None, main=True), column("w", variant="v", up=False)
    assert main_metrics([first, main, undirected, fallback]) == [main, fallback]


def test_an_ability_is_followed_by_its_metrics_if_there_are_several() -> None:
    a, b, c = column("a", dimension="x"), column("b", variant="v", dimension="x"), column("c", task="u")
    board = Board("", (), (a, b, c), (row({a: 0.5, b: 0.5, c: 0.5}), row({c: 0.5}, model="other")), (), ())
    lines = lines_of(board)
    assert [line.name for line in lines_of(board, "other")] == ["u"]  # what was not measured on it is no line
    assert [(line.name, line.parent, [one.metric for one in line.columns]) for line in lines] == [
        ("x", -1, ["a", "b"]), ("", 0, ["a"]), ("", 0, ["b"]), ("u", -1, ["c"]),
    ]  # fmt: skip


def test_a_metric_of_few_rows_is_listed_but_no_part_of_the_ability() -> None:
    """A small suite on the same data shares the table; its own metric left the ability of all rows without a value."""
    often, rare = column("often", dimension="x"), column("rare", variant="v", dimension="x")
    both, only = {often: 0.5, rare: 0.5}, {often: 0.5}
    for rows, expected in (([both, both, only, only], ["often", "rare"]), ([both, only, only], ["often"])):
        board = Board("", (), (often, rare), tuple(row(values) for values in rows), (), ())
        ability, *parts = lines_of(board)
        assert [one.metric for one in ability.columns] == expected
        assert [(part.parent, [one.metric for one in part.columns]) for part in parts] == [
            (0, ["often"]),
            (0, ["rare"]),
        ]


def test_change_is_a_share_of_what_dense_has_over_chance() -> None:
    accuracy = column(chance=0.1)
    base = row({accuracy: 0.9})
    half = kept(row({accuracy: 0.5}, dense=base), Line("x", (accuracy,)), base)
    assert half is not None
    assert half.value == pytest.approx(-0.5)
    assert (half.low, half.high) == pytest.approx((-0.5 - 0.01 / 0.8, -0.5 + 0.01 / 0.8))
    at_chance = kept(row({accuracy: 0.1}, dense=base), Line("x", (accuracy,)), base)
    assert at_chance is not None
    assert at_chance.value == pytest.approx(-1)


def test_without_a_chance_level_the_share_is_of_the_dense_value_and_lower_may_be_better() -> None:
    error = column(up=False)
    base = row({error: 0.2})
    doubled = kept(row({error: 0.4}, dense=base), Line("x", (error,)), base)
    assert doubled is not None
    assert doubled.value == pytest.approx(-1)
    assert doubled.low < doubled.value < doubled.high


def test_nothing_is_kept_of_a_dense_value_that_is_not_above_chance() -> None:
    accuracy = column(chance=0.1)
    for base in (
        row({accuracy: 0.105}),  # within half the width of its interval
        row({accuracy: 0.9}, collapsed=True),
        row({accuracy: 0.9}, at_chance=(accuracy.key,)),
        row({}),
        row({accuracy: math.nan}),
    ):
        assert math.isnan(scale_of(accuracy, base))
        assert kept(row({accuracy: 0.5}, dense=row({accuracy: 0.9})), Line("x", (accuracy,)), base) is None
    assert kept(row({accuracy: 0.5}), Line("x", (accuracy,)), None) is None


def test_tasks_weigh_the_same_however_many_metrics_they_have() -> None:
    a, b, c = column("a"), column("b", variant="v"), column("c", task="u")
    base = row({a: 1.0, b: 1.0, c: 1.0})
    share = kept(row({a: 0.4, b: 0.8, c: 1.2}, dense=base), Line("x", (a, b, c)), base)
    assert share is not None
    assert share.value == pytest.approx(((-0.6 - 0.2) / 2 + 0.2) / 2)
    assert share.metrics == 3


def test_a_missing_metric_leaves_the_ability_without_a_value() -> None:
    a, b = column("a"), column("b", variant="v")
    base = row({a: 1.0, b: 1.0})
    assert kept(row({a: 0.4}, dense=base), Line("x", (a, b)), base) is None
    assert math.isnan(level(row({a: 0.4}), Line("x", (a, b)), base))


values = st.floats(0.05, 1)


@given(values, values, st.floats(0.01, 1000), st.booleans())
def test_shares_do_not_depend_on_the_unit(dense_value: float, value: float, factor: float, up: bool) -> None:
    one = column(up=up)

    def share(scale: float) -> float:
        base = row({one: dense_value * scale}, half=0.01 * scale)
        found = kept(row({one: value * scale}, dense=base, half=0.01 * scale), Line("x", (one,)), base)
        assert found is not None
        assert found.low <= found.value <= found.high
        return found.value

    assert share(factor) == pytest.approx(share(1), abs=1e-9)


@given(values, values)
def test_level_of_one_metric_orders_rows_as_their_values(one: float, other: float) -> None:
    for up in (True, False):
        metric = column(up=up)
        base = row({metric: 0.5})
        levels = [level(row({metric: value}, dense=base), Line("x", (metric,)), base) for value in (one, other)]
        assert (levels[0] > levels[1]) == ((one > other) == up and one != other)


def test_rows_are_put_in_order_by_the_model_as_loaded_if_it_was_measured() -> None:
    loaded, trained = row({}), row({}, recipe="finetune")
    assert common_reference({("net", "finetune"): trained, ("net", "none"): loaded}, "net") is loaded
    assert common_reference({("net", "finetune"): trained}, "net") is trained
    assert common_reference({("net", "none"): loaded}, "other") is None


def contest(folder: Path, **shares: float) -> tuple[Board, list[Row], Contenders]:
    """A contest in one metric whose first pruner is the best; differences are those of single samples."""
    made = [dense(correct(0.95))]
    made += [measured(correct(share, seed), pruner=name) for seed, (name, share) in enumerate(shares.items())]
    (board,) = write(folder, *made)
    ordered = sorted((r for r in board.rows if not r.dense), key=lambda r: list(shares).index(r.pruner))
    return board, ordered, Contenders(board, load_results(folder, details=True), Pairs([folder]), board.columns)


def test_the_best_row_is_compared_sample_by_sample_and_corrected(tmp_path: Path) -> None:
    """The p-values are McNemar's, from SciPy's exact binomial test, with Bonferroni's correction by hand."""
    shares = {"a": 0.9, "b": 0.82, "c": 0.86, "d": 0.5}
    board, (best, *others), contenders = contest(tmp_path / "run", **shares)
    arrays = [correct(share, seed) for seed, share in enumerate(shares.values())]
    p = []
    for other in arrays[1:]:
        wins, losses = int((arrays[0] > other).sum()), int((arrays[0] < other).sum())
        p.append(binomtest(wins, wins + losses).pvalue)
    adjusted = [min(1, 6 * value) for value in p]  # six pairs of four pruners
    line = Line("x", board.columns)
    expected = [i for i, value in enumerate(adjusted) if value > 0.05]
    assert expected not in ([], [0, 1, 2]), "the case decides something"
    assert contenders.not_behind(best, others, line, {board.columns[0].key: 0.95}) == expected


@pytest.mark.parametrize("rivals", [2, 3, 5, 10])
def test_equal_pruners_are_rarely_called_ahead_although_the_best_is_chosen_by_looking(rivals: int) -> None:
    """Of 20,000 contests of equal pruners, at most 5 % (and three standard errors) claim anything."""
    draws = np.random.default_rng(rivals).normal(size=(20_000, rivals))
    gaps = draws.max(axis=1, keepdims=True) - np.sort(draws, axis=1)[:, :-1]
    p = erfc(gaps / 2)  # two-sided, differences of two unit normals
    claims = np.mean([min(corrected(list(row))) <= 0.05 for row in p])
    assert claims <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 20_000)
    assert claims >= 0.02, "the correction is not so strict that nothing could be claimed"


def test_nothing_is_ahead_without_samples_or_when_the_budget_is_spent(tmp_path: Path) -> None:
    board, (best, *others), contenders = contest(tmp_path / "run", a=0.9, b=0.2)
    line, scales = Line("x", board.columns), {board.columns[0].key: 0.95}
    assert contenders.not_behind(best, others, line, scales) == []
    blind = Contenders(board, load_results(tmp_path / "run", details=True), Pairs(), board.columns)
    assert blind.not_behind(best, others, line, scales) == [0]
    spent = Contenders(board, load_results(tmp_path / "run", details=True), Pairs([tmp_path / "run"]), board.columns)
    spent.left = 0
    assert spent.not_behind(best, others, line, scales) == [0]


def test_several_metrics_are_compared_by_their_mean_with_the_mean_of_their_errors(tmp_path: Path) -> None:
    made = [dense(correct(0.95), variant=v) for v in ("v", "w")]
    for pruner, share in (("a", 0.9), ("b", 0.6), ("c", 0.88)):
        made += [
            measured(correct(share, s + 7 * (pruner == "c")), pruner=pruner, variant=v) for s, v in enumerate("vw")
        ]
    (board,) = write(tmp_path / "run", *made)
    rows = {r.pruner: r for r in board.rows}
    contenders = Contenders(
        board, load_results(tmp_path / "run", details=True), Pairs([tmp_path / "run"]), board.columns
    )
    scales = {c.key: 0.95 for c in board.columns}
    assert contenders.not_behind(rows["a"], [rows["b"], rows["c"]], Line("x", board.columns), scales) == [1]
    # a row that is in fact ahead is never behind
    assert contenders.not_behind(rows["b"], [rows["a"]], Line("x", board.columns), scales) == [0]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Board]:
    folder = small_run(tmp_path_factory.mktemp("small") / "run")
    (board,) = build(load_results(folder, details=True), [folder])
    return folder, board


def test_answers_hold_every_row_and_name_the_planted_best(small: tuple[Path, Board]) -> None:
    folder, board = small
    contenders = Contenders(board, load_results(folder, details=True), Pairs([folder]), main_metrics(board.columns))
    made = answers(board, contenders, sweet_spots(board))
    assert sorted(made["names"]["model"]["label"]) == list(MODELS)
    for model in made["models"]:
        assert model["sparsities"] == list(SPARSITIES)
        assert len(model["options"]) == len(PRUNERS) * len(RECIPES)
        rows = {cell[7] for table in model["cells"] for line in table for cell in line if cell}
        assert rows == {
            i
            for i, r in enumerate(board.rows)
            if not r.dense and r.model == made["names"]["model"]["label"][model["model"]]
        }
    vit = next(m for m in made["models"] if made["names"]["model"]["label"][m["model"]] == "tiny-vit")
    discovery = next(i for i, line in enumerate(vit["lines"]) if line["name"] == "discovery")
    won = vit["best"][1][discovery]["all"]
    option = vit["options"][won["option"]]
    assert made["names"]["pruner"]["label"][option["pruner"]] == "magnitude(allocation=erk)"
    behind = set(range(len(vit["options"]))) - set(won["equal"]) - {won["option"]}
    assert {made["names"]["pruner"]["label"][vit["options"][i]["pruner"]] for i in behind} >= {"random"}


def test_best_of_a_contest_has_the_highest_value_and_is_above_chance(small: tuple[Path, Board]) -> None:
    folder, board = small
    contenders = Contenders(board, load_results(folder, details=True), Pairs(), main_metrics(board.columns))
    for model in answers(board, contenders, sweet_spots(board))["models"]:
        for s in range(len(model["sparsities"])):
            for place, line in enumerate(model["lines"]):
                if len(line["columns"]) > 1:
                    continue
                metric = board.columns[line["columns"][0]]
                cells = [cell for cell in model["cells"][s][place] if cell and not cell[6]]
                found = [board.rows[cell[7]].cells[metric.key].value for cell in cells]
                best = model["cells"][s][place][model["best"][s][place]["all"]["option"]]
                extreme = max(found) if metric.higher_is_better else min(found)
                assert board.rows[best[7]].cells[metric.key].value == extreme
                assert not board.rows[best[7]].collapsed


def test_data_of_a_board_hold_every_value_of_it(small: tuple[Path, Board]) -> None:
    folder, board = small
    data = board_data(board, runs_of_rows(load_results(folder, details=True)), {"small"})
    stored = data["values"]
    found = {}
    for i, (r, c) in enumerate(zip(stored["row"], stored["column"], strict=True)):
        found[r, c] = {name: listed[i] for name, listed in stored.items()}
    assert len(found) == sum(len(r.cells) for r in board.rows)
    for (r, c), one in found.items():
        own, metric = board.rows[r], board.columns[c]
        entry, change = own.cells[metric.key], own.differences.get(metric.key)
        assert [one["value"], one["low"], one["high"]] == [plain(x) for x in (entry.value, entry.low, entry.high)]
        assert (one["n"], one["seeds"]) == (entry.n, entry.seeds)
        assert one["change"] == (plain(change.value) if change else None)
        verdict = own.verdicts.get(metric.key)
        flags = BEST * entry.best | AT_CHANCE * (metric.key in own.at_chance)
        assert one["flags"] == flags | BETTER * (verdict == "better") | WORSE * (verdict == "worse")
    names, rows = data["names"], data["rows"]
    for i, own in enumerate(board.rows):
        assert names["model"]["label"][rows["model"][i]] == own.model
        assert names["pruner"]["label"][rows["pruner"][i]] == own.pruner
        assert rows["sparsity"][i] == own.sparsity
        assert bool(rows["flags"][i] & COLLAPSED) == own.collapsed
        assert [names["run"]["label"][run] for run in rows["runs"][i]] == ["run"]
        assert data["suite"][rows["suite"][i]] == "small"
        assert rows["trust"][i] == own.trust


def test_a_suite_that_is_not_shipped_has_no_command_of_its_own(small: tuple[Path, Board]) -> None:
    folder, board = small
    assert board_data(board, runs_of_rows(load_results(folder, details=True)), set())["suite"] == [""]


def test_origin_names_all_runs_of_a_row_in_order(tmp_path: Path) -> None:
    write_run(tmp_path / "one", [record("a"), record("b")])
    write_run(tmp_path / "two", [record("a"), replace(record("c"), suite="other")])
    made = runs_of_rows(load_results([tmp_path / "one", tmp_path / "two"]))
    assert made["net", "a", "none", 0.5].runs == ("one", "two")
    assert made["net", "b", "none", 0.5].runs == ("one",)
    assert made["net", "c", "none", 0.5].suite == "other"
