"""Chance levels, collapsed rows and degenerate outputs."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kit.boards import record, write_run
from kit.paired import KEY, correct, dense, measured, write
from kit.toysuite import TOY_SUITE
from pruningbench_discovery.metrics import BestIoU, CorLoc, DetectionRate, MaskIoU
from pruningbench_transfer.metrics import Accuracy
from scipy import stats

from pruningbench.contract import Attributions, Boxes, GroupedPredictions, Predictions, above_chance, commonest
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.hookspecs import hookimpl
from pruningbench.leaderboard import Board, build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.suite.schema import suite_from_text

# the test against chance


def test_binary_values_take_mcnemars_exact_test() -> None:
    rng = np.random.default_rng(0)
    for share in (0.2, 0.5, 0.55, 0.7):
        values, chance = (rng.random(60) < share).astype(float), (rng.random(60) < 0.5).astype(float)
        better, worse = int((values > chance).sum()), int((values < chance).sum())
        expected = stats.binomtest(better, better + worse, 0.5, "greater").pvalue
        assert above_chance(values, chance) == pytest.approx(expected)
        flipped = stats.binomtest(worse, better + worse, 0.5, "greater").pvalue
        assert above_chance(values, chance, higher_is_better=False) == pytest.approx(flipped)


def test_other_values_take_students_test() -> None:
    rng = np.random.default_rng(1)
    values, chance = rng.random(40), rng.random(40) - 0.1
    expected = stats.ttest_rel(values, chance, alternative="greater").pvalue
    assert above_chance(values, chance) == pytest.approx(expected)
    values[0] = np.nan
    expected = stats.ttest_rel(values[1:], chance[1:], alternative="greater").pvalue
    assert above_chance(values, chance) == pytest.approx(expected)
    assert above_chance(np.full(3, np.nan), np.zeros(3)) == 1
    assert above_chance(np.full(5, 0.5), np.full(5, 0.25)) == 0
    assert above_chance(np.full(5, 0.25), np.full(5, 0.25)) == 1


def test_a_statistic_of_its_own_is_resampled() -> None:
    rng = np.random.default_rng(2)
    chance = np.stack([(rng.random(200) < 0.3).astype(float), np.ones(200)], axis=1)
    better = np.stack([(rng.random(200) < 0.6).astype(float), np.ones(200)], axis=1)

    def ratio(rows: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(rows[:, 0].sum() / rows[:, 1].sum())

    assert above_chance(better, chance, ratio) == pytest.approx(1 / 1001)
    assert above_chance(chance, chance, ratio) == 1


def test_false_alarms_are_as_rare_as_said() -> None:
    """A network that guesses is called better than chance in at most 5 % of the cases."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (2000, 100))
    constant = (labels == 0).astype(float)
    guessed = (rng.integers(0, 4, labels.shape) == labels).astype(float)
    alarms = np.mean([above_chance(v, c) < 0.05 for v, c in zip(guessed, constant, strict=True)])
    assert 0.01 < alarms <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)


# chance levels of metrics


def test_accuracy_at_chance_is_that_of_the_commonest_class() -> None:
    labels = torch.tensor([0, 1, 1, 2, 1, 0])
    chance = Accuracy().chance(Predictions(torch.zeros(6, 3), labels))
    assert chance is not None and chance.tolist() == [0, 1, 1, 0, 1, 0]
    assert commonest(torch.tensor([-1, -1, 2, 3, 3])) == 3 and commonest(torch.tensor([1, 1])) is None
    assert Accuracy().chance(Predictions(torch.zeros(2, 3), torch.tensor([1, 1]))) is None
    episodes = GroupedPredictions(torch.zeros(2, 4, 2), torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]]))
    grouped = Accuracy().chance(episodes)
    assert grouped is not None and grouped.tolist() == [0.5, 0.75]


def test_corloc_at_chance_is_that_of_the_whole_image() -> None:
    truth = [torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.empty(0, 4)]
    boxes = Boxes([torch.empty(0, 4)] * 3, truth, sizes=[(8, 10), (8, 10), (8, 10)])
    values = CorLoc().chance(boxes)
    assert values is not None and values[:2].tolist() == [1, 0] and bool(values[2].isnan())
    overlap = BestIoU().chance(boxes)
    assert overlap is not None and overlap[:2].tolist() == pytest.approx([0.8, 0.05])
    detected = DetectionRate().chance(boxes)
    assert detected is not None and detected[:2].tolist() == [[1, 1], [0, 1]]
    assert CorLoc().chance(Boxes([], [])) is None
    masks = [torch.tensor([[True, False], [False, False]])]
    assert MaskIoU().chance(Boxes([], [], masks=masks, foreground=masks)).tolist() == [0.25]


# degenerate outputs


def test_degenerate_outputs_are_counted() -> None:
    labels = torch.arange(20) % 2
    scores = torch.zeros(20, 2)
    found = Predictions(scores, labels).degenerate()
    assert found is not None and (found.what, found.count) == ("one predicted class", 20)
    assert Predictions(torch.nn.functional.one_hot(labels).float(), labels).degenerate() is None
    assert Predictions(scores, torch.zeros(20, dtype=torch.int64)).degenerate() is None  # that is right
    maps = torch.rand(6, 4, 4)
    maps[1], maps[2], maps[3] = 0.0, 7.0, float("nan")
    attributions = Attributions(maps, torch.zeros(6, 1, 4, 4), torch.zeros(6), lambda x: x)
    assert attributions.degenerate().count == 2  # type: ignore[union-attr]


def test_boxes_that_say_nothing_are_counted() -> None:
    own = [torch.tensor([[i, 0.0, i + 5.0, 9.0]]) for i in range(20)]
    sizes = [(30, 30 + 2 * i) for i in range(20)]
    whole = [torch.tensor([[0.0, 0.0, w, h]]) for h, w in sizes]
    truth = [torch.tensor([[0.0, 0.0, 9.0, 9.0]])] * 20
    assert Boxes(own, truth, sizes=sizes).degenerate() is None
    alike = Boxes(whole, truth, sizes=sizes, remedy="another task").degenerate()
    assert alike is not None and (alike.what, alike.count, alike.remedy) == ("the same box", 20, "another task")
    nothing = Boxes([*own[:15], *[torch.empty(0, 4)] * 5], truth, sizes=sizes).degenerate()
    assert nothing is not None and (nothing.what, nothing.count) == ("nothing found", 5)


# through the harness


class Warnings:
    def __init__(self) -> None:
        self.heard: list[str] = []

    @hookimpl
    def pruningbench_warning(self, message: str) -> None:
        self.heard.append(message)


SUITE = TOY_SUITE.replace("toy-task, data", "classification, data").replace("[0, 0.5, 0.9]", "[0, 0.5, 0.999]")


def test_a_network_at_chance_is_collapsed(toy_registry: Registry, tmp_path: Path) -> None:
    """At 99.9 % nothing of the network is left: it predicts one class, and says so."""
    text = SUITE.replace("recipes: [none, {use: finetune, epochs: 1}]", "recipes: [none, {use: finetune, epochs: 9}]")
    observer = Warnings()
    prepared = prepare(suite_from_text(text, toy_registry), toy_registry, tmp_path / "run", RunOptions(device="cpu"))
    execute(prepared, toy_registry, observer)
    frame = load_results(tmp_path / "run", details=True)
    accuracy = frame[frame["metric"] == "accuracy"]
    assert set(accuracy["chance"]) == {0.5} and accuracy["chance_p"].notna().all()
    assert frame[frame["metric"] == "toy-margin"]["chance_p"].isna().all()
    (board,) = build(frame, [tmp_path / "run"])
    rows = {(row.sparsity, row.pruner, row.recipe): row for row in board.rows}
    lost = rows[0.999, "toy-pruner", "none"]
    assert lost.collapsed and lost.rank is None and not any(cell.best for cell in lost.cells.values())
    assert lost.degenerate == {("classification", ""): 64}
    trained = rows[0.0, "dense", "finetune(epochs=9)"]
    assert not trained.collapsed and not trained.degenerate
    told = [line for line in observer.heard if "one predicted class in " in line]
    assert len(told) == 1 and "prune less" in told[0]  # once for a model and task, not in each cell
    noted = frame[(frame["degenerate"] > 0)]["remarks"]
    assert len(noted) and all("one predicted class" in note for note in noted)


# boards


def chance(p: float, level: float = 0.5, **fields: object) -> dict[str, object]:
    return {"chance": level, "chance_p": p, **fields}


def collapsed_board(folder: Path) -> Board:
    """`b` sees nothing, and beats `a` and the dense model in a metric of maps."""
    fields = {"task": "z-maps", "metric": "gini"}
    (board,) = write(
        folder,
        dense(correct(0.9), **chance(0.0)), dense(correct(0.5), **fields),
        measured(correct(0.8), pruner="a", **chance(0.0)), measured(correct(0.4), pruner="a", **fields),
        measured(correct(0.5), pruner="b", **chance(0.6)), measured(correct(0.9), pruner="b", **fields),
        measured(correct(0.7), pruner="c", **chance(0.0)), measured(correct(0.3), pruner="c", **fields),
    )  # fmt: skip
    return board


def test_a_collapsed_row_is_shown_and_never_wins(tmp_path: Path) -> None:
    board = collapsed_board(tmp_path / "run")
    rows = {row.pruner: row for row in board.rows}
    assert rows["b"].collapsed and rows["b"].rank is None
    assert (rows["a"].rank, rows["c"].rank) == (1.0, 2.0)
    gini = ("z-maps", "", "gini")
    assert rows["a"].cells[gini].best and not rows["b"].cells[gini].best
    assert gini not in rows["b"].verdicts and rows["b"].verdicts[KEY] == "worse"
    assert [row.pruner for row in board.rows] == ["dense", "a", "c", "b"]
    table = render([board], "table")
    (line,) = [line for line in table.splitlines() if " b " in line]
    assert "†" in line.split()[3] and "(sorting accuracy .500)" in " ".join(table.split())
    assert "| † collapsed |" in render([board], "markdown")
    written = [row for row in csv.DictReader(io.StringIO(render([board], "csv"))) if row["pruner"] == "b"]
    assert [row["collapsed"] for row in written] == ["True", "True"] and written[0]["chance"] == "0.5"
    (plain,) = json.loads(render([board], "json"))
    assert [row["collapsed"] for row in plain["rows"]] == [False, False, False, True]
    assert plain["columns"][0]["chance"] == 0.5 and plain["rows"][3]["cells"][0]["at_chance"] is True


def test_a_task_at_chance_counts_as_last_in_its_columns(tmp_path: Path) -> None:
    found = {"task": "z-boxes", "metric": "corloc", "data_fingerprint": "d2"}
    (board,) = write(
        tmp_path / "run",
        measured(correct(0.8), pruner="a", **chance(0.0)), measured(correct(0.4), pruner="a", **found, **chance(0.7)),
        measured(correct(0.7), pruner="b", **chance(0.0)), measured(correct(0.3), pruner="b", **found, **chance(0.0)),
    )  # fmt: skip
    rows = {row.pruner: row for row in board.rows}
    assert not rows["a"].collapsed and rows["a"].at_chance == (("z-boxes", "", "corloc"),)
    assert rows["a"].rank == rows["b"].rank == 1.5
    assert not rows["a"].cells["z-boxes", "", "corloc"].best


def test_nothing_is_compared_with_a_dense_model_at_chance(tmp_path: Path) -> None:
    (board,) = write(
        tmp_path / "run", dense(correct(0.5), **chance(0.6)), measured(correct(0.9), pruner="a", **chance(0.0))
    )
    assert board.rows[0].collapsed and board.rows[1].differences and board.rows[1].verdicts == {}
    assert any("dense net (none)" in note for note in board.notes)


def test_several_seeds_collapse_when_half_of_them_do(tmp_path: Path) -> None:
    for ps, expected in (((0.6, 0.0), True), ((0.6, 0.0, 0.0), False)):
        records = [record(seed=i, **chance(p)) for i, p in enumerate(ps)]
        folder = write_run(tmp_path / str(len(ps)), [replace(r, part=1, parts=1) for r in records])
        (board,) = build(load_results(folder))
        assert board.rows[0].collapsed == expected


def test_old_runs_have_no_chance_levels(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record()])
    frame = load_results(folder).drop(columns=["chance", "chance_p", "degenerate"])
    (board,) = build(frame)
    assert not board.rows[0].collapsed and "†" not in render([board], "table")
