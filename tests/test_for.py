"""``for:`` says for which models a pruner, recipe or task is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kit.runs import run
from kit.toysuite import Command

from pruningbench.errors import SuiteError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

SUITE = """\
name: two-kinds
models: [toy-net, {use: toy-net, width: 4}]
pruners: [toy-pruner, {use: toy-pruner, shift: 1.0, for: ["toy-net(width=*)"]}]
sparsities: [0, 0.5]
recipes: [{use: none, for: toy-net}, {use: finetune, epochs: 1, for: ["toy-net(width=4)"]}]
tasks:
  - {use: toy-task, data: {use: toy-data, split: test}}
  - {use: classification, data: {use: toy-data, split: test}, for: [toy-net]}
"""
CELLS = [
    "toy-net · dense",
    "toy-net · toy-pruner 0.5 none",
    "toy-net(width=4) · dense",
    "toy-net(width=4) · dense finetune(epochs=1)",
    "toy-net(width=4) · toy-pruner 0.5 finetune(epochs=1)",
    "toy-net(width=4) · toy-pruner(shift=1) 0.5 finetune(epochs=1)",
]


def test_cells_and_tasks_are_those_that_belong_together(toy_registry: Registry) -> None:
    plan = make_plan(suite_from_text(SUITE, toy_registry), toy_registry)
    assert [cell.label for cell in plan.cells] == CELLS
    assert [len(plan.tasks_of(cell)) for cell in plan.cells] == [2, 2, 1, 1, 1, 1]
    assert plan.shared_work()["task_runs"] == 8


def test_keys_of_cells_are_the_same_with_and_without(toy_registry: Registry) -> None:
    whole = SUITE.replace(", for: toy-net}", "}").replace(', for: ["toy-net(width=4)"]', "")
    whole = whole.replace(', for: ["toy-net(width=*)"]', "").replace(", for: [toy-net]", "")
    plan, every = (make_plan(suite_from_text(text, toy_registry), toy_registry) for text in (SUITE, whole))
    assert {cell.key for cell in plan.cells} < {cell.key for cell in every.cells}
    assert plan.suite.digest != every.suite.digest


def test_the_resolved_suite_keeps_it(toy_registry: Registry) -> None:
    suite = suite_from_text(SUITE, toy_registry)
    again = suite_from_text(suite.to_yaml(), toy_registry)
    assert (again.resolved(), again.digest) == (suite.resolved(), suite.digest)
    assert suite.resolved()["recipes"][0]["for"] == ["toy-net"]


def test_a_run_measures_just_these_and_goes_on(toy_registry: Registry, tmp_path: Path) -> None:
    first = run(SUITE, toy_registry, tmp_path / "run")
    assert (first.cells, first.computed, first.resumed, first.ok) == (6, 8, 0, True)
    table = load_results(tmp_path / "run")
    assert set(table[table["task"] == "classification"]["model"]) == {"toy-net"}
    again = run(SUITE, toy_registry, tmp_path / "run")
    assert (again.computed, again.resumed, again.ok) == (0, 8, True)


def test_a_pruner_comes_again_for_other_models(toy_registry: Registry, tmp_path: Path) -> None:
    """It keeps its label, its cells have the keys that they have without, and results of before count."""
    once = """\
name: again
models: [toy-net, {use: toy-net, width: 4, as: narrow}]
pruners: [{use: toy-pruner, for: [toy-net]}]
sparsities: [0, 0.5, 0.9]
seeds: [0, 1]
tasks: [{use: toy-task, data: {use: toy-data, split: test}}]
"""
    second = "{use: toy-pruner, for: [narrow], only: {seeds: [1], sparsities: [0.9]}}"
    again = once.replace("for: [toy-net]}", f"for: [toy-net]}}, {second}")
    suite = suite_from_text(again, toy_registry)
    plan, before, every = (
        make_plan(suite_from_text(text, toy_registry), toy_registry)
        for text in (again, once, once.replace("{use: toy-pruner, for: [toy-net]}", "toy-pruner"))
    )
    assert {cell.key for cell in before.cells} < {cell.key for cell in plan.cells} < {cell.key for cell in every.cells}
    new = [cell for cell in plan.cells if cell.key not in {other.key for other in before.cells}]
    assert [(cell.model.label, cell.pruner_label, cell.sparsity, cell.seed) for cell in new] == [
        ("narrow", "toy-pruner", 0.9, 1)
    ]
    assert suite_from_text(suite.to_yaml(), toy_registry).resolved() == suite.resolved()
    first = run(once, toy_registry, tmp_path / "run")
    more = run(again, toy_registry, tmp_path / "run")
    assert (more.computed, more.resumed, more.ok) == (1, first.computed, True)
    assert set(load_results(tmp_path / "run")["pruner"]) == {"dense", "toy-pruner"}


def test_a_label_that_is_given_is_kept_for_other_models(toy_registry: Registry) -> None:
    pruners = "[{use: toy-pruner, as: mine, for: [toy-net]}, {use: toy-pruner, as: mine, for: ['toy-net(width=4)']}]"
    text = SUITE.replace(SUITE.splitlines()[2], f"pruners: {pruners}")
    labels = {cell.pruner_label for cell in make_plan(suite_from_text(text, toy_registry), toy_registry).cells}
    assert labels == {"dense", "mine"}


def test_the_plan_says_how_many(pruningbench: Command, suite_file: Callable[..., Path]) -> None:
    text = pruningbench("plan", suite_file(SUITE), check=0).stdout
    assert "task runs     8 (1 to 2 tasks on each cell), 8 still to do" in text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[resnet]", r"suite:5:\d+: for model=resnet: the suite has no such model"),
        ("[]", r"for: must be a list of labels of models, such as \[resnet\] or \['vit\*'\], got \[\]"),
        ("[3]", r"for: must be a list of labels of models.*got \[3\]"),
        ("{a: b}", "for: must be a list of labels of models"),
    ],
)
def test_a_wrong_for_is_named(given: str, words: str, toy_registry: Registry) -> None:
    with pytest.raises(SuiteError, match=words):
        suite_from_text(SUITE.replace("for: toy-net}", f"for: {given}}}"), toy_registry)


@pytest.mark.parametrize(
    "axis", ["models: [{use: toy-net, for: [toy-net]}", "metrics: [{use: toy-margin, for: [toy-net]}"]
)
def test_models_and_metrics_are_for_all(axis: str, toy_registry: Registry) -> None:
    text = SUITE.replace("models: [toy-net", axis) if axis.startswith("models") else f"{SUITE}{axis}]\n"
    with pytest.raises(SuiteError, match="has no field 'for'"):
        suite_from_text(text, toy_registry)
