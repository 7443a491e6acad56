"""``only:`` says for which seeds and sparsities of the suite a pruner or recipe is."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.runs import run

from pruningbench.errors import SuiteError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

SUITE = """\
name: drawn
models: [toy-net]
pruners: [{use: toy-pruner, only: {seeds: [0]}}, {use: toy-pruner, shift: 1.0}]
sparsities: [0, 0.5, 0.9]
recipes: [none, {use: finetune, epochs: 1, only: {seeds: [1], sparsities: [0.9]}}]
seeds: [0, 1]
tasks:
  - {use: toy-task, data: {use: toy-data, split: test}}
"""
CELLS = [
    "toy-net · dense",
    "toy-net · dense · seed 1",
    "toy-net · dense finetune(epochs=1) · seed 1",
    "toy-net · toy-pruner 0.5 none",
    "toy-net · toy-pruner 0.9 none",
    "toy-net · toy-pruner(shift=1) 0.5 none",
    "toy-net · toy-pruner(shift=1) 0.9 none",
    "toy-net · toy-pruner(shift=1) 0.5 none · seed 1",
    "toy-net · toy-pruner(shift=1) 0.9 none · seed 1",
    "toy-net · toy-pruner(shift=1) 0.9 finetune(epochs=1) · seed 1",
]
LIMITS = ("only: {seeds: [0]}", "only: {seeds: [1], sparsities: [0.9]}")


def test_cells_are_those_of_both_the_pruner_and_the_recipe(toy_registry: Registry) -> None:
    plan = make_plan(suite_from_text(SUITE, toy_registry), toy_registry)
    assert [cell.label for cell in plan.cells] == CELLS


def test_keys_of_cells_are_the_same_with_and_without(toy_registry: Registry) -> None:
    whole = SUITE
    for limit in LIMITS:
        whole = whole.replace(f", {limit}", "")
    plan, every = (make_plan(suite_from_text(text, toy_registry), toy_registry) for text in (SUITE, whole))
    assert {cell.key for cell in plan.cells} < {cell.key for cell in every.cells}
    assert plan.suite.digest != every.suite.digest


def test_the_resolved_suite_keeps_it(toy_registry: Registry) -> None:
    suite = suite_from_text(SUITE, toy_registry)
    again = suite_from_text(suite.to_yaml(), toy_registry)
    assert (again.resolved(), again.digest) == (suite.resolved(), suite.digest)
    assert suite.resolved()["recipes"][1]["only"] == {"seeds": [1], "sparsities": [0.9]}


def test_a_run_measures_just_these_and_goes_on_when_a_limit_falls(toy_registry: Registry, tmp_path: Path) -> None:
    first = run(SUITE, toy_registry, tmp_path / "run")
    assert (first.cells, first.computed, first.ok) == (10, 10, True)
    table = load_results(tmp_path / "run")
    assert set(table[table["pruner"] == "toy-pruner"]["seed"]) == {0}
    again = run(SUITE.replace(f", {LIMITS[0]}", ""), toy_registry, tmp_path / "run")
    # seed 1: two sparsities without training, and the sparser one with it
    assert (again.computed, again.resumed, again.ok) == (3, 10, True)


def test_a_recipe_trains_its_dense_reference_for_its_own_sparsities_only(toy_registry: Registry) -> None:
    """An iterative recipe trains the dense network as often as its sparsest network; others do not count."""
    suite = SUITE.replace("{use: finetune, epochs: 1", "{use: iterative, rate: 0.5, epochs: 1")
    rounds = {}
    for sparsities in ("[0.9]", "[0.5]"):
        text = suite.replace("sparsities: [0.9]", f"sparsities: {sparsities}")
        cells = make_plan(suite_from_text(text, toy_registry), toy_registry).cells
        rounds[sparsities] = next(cell.rounds for cell in cells if cell.pruner is None and cell.trained)
    assert rounds["[0.5]"] < rounds["[0.9]"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[0]", r"only: must be a mapping with seeds or sparsities, such as \{seeds: \[0\]\}, got \[0\]"),
        ("{}", "only: must be a mapping"),
        ("{seed: [0]}", "only: must be a mapping with seeds or sparsities"),
        ("{seeds: 0}", r"only\.seeds: must be a list of seeds of the suite, got 0"),
        ("{seeds: [true]}", r"only\.seeds: must be a list"),
        ("{seeds: [0.5]}", r"only\.seeds: must be a list"),
        ("{seeds: [7]}", r"only\.seeds: 7 is not in seeds of the suite"),
        ("{sparsities: [0.7]}", r"only\.sparsities: 0\.7 is not in sparsities of the suite"),
    ],
)
def test_anything_else_is_refused_with_its_place(toy_registry: Registry, given: str, words: str) -> None:
    with pytest.raises(SuiteError, match=rf"^suite:3:\d+: {words}"):
        suite_from_text(SUITE.replace("{seeds: [0]}", given), toy_registry)


@pytest.mark.parametrize(("axis", "item"), [("models", "toy-net"), ("tasks", "toy-task")])
def test_other_axes_have_none(toy_registry: Registry, axis: str, item: str) -> None:
    text = {"models": SUITE.replace("[toy-net]", "[{use: toy-net, only: {seeds: [0]}}]"),
            "tasks": SUITE.replace("{use: toy-task,", "{use: toy-task, only: {seeds: [0]},")}[axis]  # fmt: skip
    with pytest.raises(SuiteError, match=f"'{item}' has no field 'only'"):
        suite_from_text(text, toy_registry)
