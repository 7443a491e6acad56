"""The dense reference of a recipe that trains: made once, measured in rows of its own, and compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from kit.boards import failure, write_run
from kit.paired import KEY, correct, dense, measured, write
from kit.runs import run
from pruningbench_recipes.basic import Finetune
from pruningbench_recipes.iterative import Iterative

from pruningbench.contract import Context, VisionModel
from pruningbench.harness.shelves import load_model
from pruningbench.hookspecs import hookimpl
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store.cache import Cache
from pruningbench.store.runfolder import RunFolder
from pruningbench.suite.binding import bind
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text
from pruningbench.training.fit import fit

SUITE = """\
name: toy
models: [toy-net]
pruners: [toy-pruner, {use: toy-pruner, allocation: uniform}]
sparsities: [0, 0.5]
recipes: RECIPES
tasks:
  - {use: toy-task, data: {use: toy-data, split: test}}
metrics: [toy-margin]
"""
IMP = "[{use: iterative, levels: [0.3, 0.5], rewind: init, epochs: 2}]"
LRR = "[{use: iterative, levels: [0.3, 0.5], rewind: none, epochs: 2}]"


def of(recipes: str) -> str:
    return SUITE.replace("RECIPES", recipes)


def test_a_recipe_that_trains_has_a_dense_cell_beside_that_of_the_model_as_loaded(toy_registry: Registry) -> None:
    plan = make_plan(suite_from_text(of("[none, {use: finetune, epochs: 1}]"), toy_registry), toy_registry)
    assert [(cell.recipe.label, cell.trained, cell.label) for cell in plan.cells if cell.pruner is None] == [
        ("none", False, "toy-net · dense"),
        ("finetune(epochs=1)", True, "toy-net · dense finetune(epochs=1)"),
    ]
    only = make_plan(plan.suite, toy_registry, ["recipe=none"])
    assert [cell.label for cell in only.cells if cell.pruner is None] == ["toy-net · dense"]
    trained = make_plan(plan.suite, toy_registry, ["recipe=finetune*"])
    assert len([cell for cell in trained.cells if cell.pruner is None]) == 2
    without = of("[{use: finetune, epochs: 1}]").replace("[0, 0.5]", "[0.0001, 0.5]")
    cells = make_plan(suite_from_text(without, toy_registry), toy_registry).cells
    assert len(cells) == 4 and all(cell.pruner for cell in cells)  # an old suite keeps its meaning


def toy(registry: Registry) -> VisionModel:
    def context(seed: int) -> Context:
        return Context(torch.device("cpu"), seed, Cache(), lambda _: None)  # type: ignore[arg-type, return-value]

    return load_model(bind(registry, "model", "toy-net"), context)


def values(folder: Path, recipe: str, sparsity: float = 0.0) -> dict[str, float]:
    frame = load_results(folder)
    chosen = frame[(frame["recipe"] == recipe) & (frame["sparsity"] == sparsity)]
    return dict(zip(chosen["metric"], chosen["value"], strict=True))


def test_it_is_the_network_that_the_recipe_trains_when_nothing_is_pruned(
    toy_registry: Registry, tmp_path: Path
) -> None:
    from pruningbench.base.identity import derive_seed

    suite = suite_from_text(of("[none, {use: finetune, epochs: 2}]"), toy_registry)
    run(of("[none, {use: finetune, epochs: 2}]"), toy_registry, tmp_path / "run")
    model, recipe = toy(toy_registry), suite.recipes[1]
    assert isinstance(recipe.component, Finetune)
    data = bind(toy_registry, "dataset", "toy-data").component.load(None)  # type: ignore[attr-defined]
    test = bind(toy_registry, "dataset", {"use": "toy-data", "split": "test"}).component.load(None)  # type: ignore[attr-defined]
    seed = derive_seed(0, "recipe", recipe.identity(without="training"))
    fit(model, data, recipe.component, seed=seed)
    with torch.no_grad():
        right = torch.cat([model.logits(b.images).argmax(1) == b.labels for b in model.batches(test, 128)])
    measured_value = values(tmp_path / "run", "finetune")["toy-accuracy"]
    assert measured_value == pytest.approx(float(right.double().mean()))
    assert not RunFolder(tmp_path / "run").mask_file(make_plan(suite, toy_registry).cells[1].key).exists()
    frame = load_results(tmp_path / "run")
    assert set(frame[frame["sparsity"] == 0]["sparsity_achieved"]) == {0.0}


def test_iterative_recipes_take_the_trajectorys_own_start(toy_registry: Registry, tmp_path: Path) -> None:
    plan = make_plan(suite_from_text(of(IMP), toy_registry), toy_registry)
    # the dense training once for both pruners and the reference, then two levels for each pruner
    assert plan.shared_work()["trainings"] == 1 + 2 * 2
    lines: list[str] = []

    class Listener:
        @hookimpl
        def pruningbench_note(self, message: str) -> None:
            lines.append(message)

    from pruningbench.harness.run import RunOptions, execute, prepare

    execute(prepare(plan.suite, toy_registry, tmp_path / "run", RunOptions(device="cpu")), toy_registry, Listener())
    assert sum("dense: epoch 2/2" in line for line in lines) == 1
    loaded, label = values(tmp_path / "run", "none"), plan.suite.recipes[0].label
    assert loaded != values(tmp_path / "run", label)


@pytest.mark.parametrize("recipes", [IMP, LRR])
def test_pruned_values_are_those_of_a_suite_without_the_reference(
    toy_registry: Registry, tmp_path: Path, recipes: str
) -> None:
    for name, text in (("with", of(recipes)), ("without", of(recipes).replace("[0, 0.5]", "[0.5]"))):
        run(text, toy_registry, tmp_path / name)
    label = suite_from_text(of(recipes), toy_registry).recipes[0].label
    assert values(tmp_path / "with", label, 0.5) == values(tmp_path / "without", label, 0.5)


def test_trainings_of_sparsity_zero() -> None:
    for rewind in ("none", "pretrained", "init"):
        assert Iterative(rewind=rewind).trainings(0.0) == [["dense"]]  # type: ignore[arg-type]
    assert Iterative(rewind="init", levels=[0.5]).trainings(0.5) == [["dense"], ["level", 0.5]]


def test_differences_are_to_the_dense_model_trained_alike(tmp_path: Path) -> None:
    (board,) = write(
        tmp_path / "run",
        dense(correct(0.5)),
        dense(correct(0.9), recipe="tune"),
        measured(correct(0.7), pruner="a"),
        measured(correct(0.7), pruner="a", recipe="tune"),
    )
    rows = {(row.pruner, row.recipe): row for row in board.rows}
    assert [(row.pruner, row.recipe) for row in board.rows[:2]] == [("dense", "none"), ("dense", "tune")]
    assert rows["a", "none"].differences[KEY].value == pytest.approx(0.2)
    assert rows["a", "tune"].differences[KEY].value == pytest.approx(-0.2)
    assert (rows["a", "none"].reference, rows["a", "tune"].reference) == ("none", "tune")
    table = " ".join(render([board], "table").split())
    assert "worse than the dense model trained alike (tune), or as loaded where the recipe does not train" in table
    (plain,) = json.loads(render([board], "json"))
    assert [row["reference"] for row in plain["rows"]] == ["", "", *(row.reference for row in board.rows[2:])]


def test_a_reference_that_failed_is_not_replaced_by_another(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write(folder, dense(correct(0.5)), measured(correct(0.7), recipe="tune"))
    (before,) = build(load_results(folder), [folder])
    assert before.rows[-1].reference == "none"  # of a run from before there were trained references
    write_run(folder, [replace(failure("dense", recipe="tune", sparsity=0.0), part=1, parts=1)])
    (after,) = build(load_results(folder), [folder])
    assert after.rows[-1].differences == {} and after.rows[-1].reference == "tune"


def test_the_recipe_of_the_model_as_loaded_is_the_one_whose_class_says_so(toy_registry: Registry) -> None:
    from pruningbench_recipes.basic import NoTraining

    from pruningbench.contract.component import BUILT_IN
    from pruningbench.errors import PluginError
    from pruningbench.plugins import Plugin
    from pruningbench.suite.dense import recipe_as_loaded

    @dataclass(frozen=True)
    class Nothing(NoTraining):
        """Prune only."""

        as_loaded: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Also(NoTraining):
        """Prune only, under another name."""

    renamed = Registry({kind: dict(entries) for kind, entries in toy_registry.entries.items()}, [*toy_registry.plugins])
    assert recipe_as_loaded(renamed) == "none"
    del renamed.entries["recipe"]["none"]
    with pytest.raises(PluginError, match="0 built-in recipes"):
        recipe_as_loaded(renamed)
    renamed.add("recipe", "prune-only", NoTraining, Plugin("pruningbench", BUILT_IN, "1"))
    renamed.add("recipe", "stranger", Also, Plugin("stranger", "stranger", "1"))  # of no distribution that is built in
    renamed.add("recipe", "denies", Nothing, Plugin("pruningbench", BUILT_IN, "1"))
    assert recipe_as_loaded(renamed) == "prune-only"
    plan = make_plan(suite_from_text(of("[{use: finetune, epochs: 1}]"), renamed), renamed)
    assert [cell.recipe.label for cell in plan.cells if cell.pruner is None] == ["prune-only", "finetune(epochs=1)"]


RECALIBRATED = """
name: recalibrated
models: [digits-resnet]
pruners: [magnitude]
sparsities: [0, 0.5]
recipes: [none, {use: none, recalibrate: 64}]
data: {use: digits, split: train, classes: [0, 1, 2, 3, 4, 5]}
tasks:
  - {use: classification, data: {use: digits, split: test, classes: [0, 1, 2, 3, 4, 5]}}
  - {use: dense-similarity, data: {use: digits, split: test, classes: [0, 1, 2, 3, 4, 5]}}
"""


def test_recalibration_alone_has_a_dense_row_and_tables_compare_with_it(toy_registry: Registry, tmp_path: Path) -> None:
    ran = run(RECALIBRATED, toy_registry, tmp_path / "run")
    assert (ran.cells, ran.ok) == (4, True)
    changed = "none(recalibrate=64)"
    loaded, alone = values(tmp_path / "run", "none"), values(tmp_path / "run", changed)
    assert loaded["linear-cka"] == pytest.approx(1) and alone["linear-cka"] < 0.9999, "tasks compare with it as loaded"
    (board,) = build(load_results(tmp_path / "run"), [tmp_path / "run"])
    (pruned,) = [row for row in board.rows if row.recipe == changed and not row.dense]
    (raw,) = [row for row in board.rows if row.recipe == "none" and not row.dense]
    assert (pruned.reference, raw.reference) == (changed, "none")
    key = next(column.key for column in board.columns if column.metric == "linear-cka")
    of_pruned = values(tmp_path / "run", changed, 0.5)["linear-cka"]
    assert pruned.differences[key].value == pytest.approx(of_pruned - alone["linear-cka"])
    assert "recalibrated alike (none(recalibrate=64)), or as loaded where the recipe does not recalibrate" in " ".join(
        render([board], "table").split()
    )


def test_only_what_changes_a_dense_network_adds_a_dense_cell(toy_registry: Registry) -> None:
    suite = RECALIBRATED.replace("recalibrate: 64", "rounds: 3")
    labels = {}
    for text in (RECALIBRATED, suite):
        cells = make_plan(suite_from_text(text, toy_registry), toy_registry).cells
        labels[text] = [(cell.label, cell.trained, cell.changes_dense) for cell in cells if cell.pruner is None]
    loaded = ("digits-resnet · dense", False, False)
    assert labels[suite] == [loaded]
    assert labels[RECALIBRATED] == [loaded, ("digits-resnet · dense none(recalibrate=64)", False, True)]
