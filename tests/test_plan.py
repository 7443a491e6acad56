"""Plans: which cells there are, what they share, and what is left out on request."""

from __future__ import annotations

import pytest
from kit.toysuite import TOY_SUITE

from pruningbench.errors import UsageError
from pruningbench.plugins import Registry
from pruningbench.suite.labels import DENSE
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import load_suite, suite_from_text


def test_quickstart_cells(toy_registry: Registry) -> None:
    plan = make_plan(load_suite("quickstart", toy_registry), toy_registry)
    assert len(plan.cells) == 68
    assert sum(cell.pruner is None for cell in plan.cells) == 4  # each model as loaded, and fine-tuned
    assert len({cell.key for cell in plan.cells}) == 68
    assert plan.shared_work() == {
        "model_loads": 2, "scoring_passes": 4, "scored_once": 64, "prunings": 32, "pruned_once": 64, "trainings": 34, "trained": 34, "cells": 68, "task_runs": 272,
    }  # fmt: skip


def test_only_cells_whose_dense_model_is_pruned_share_scores(toy_registry: Registry) -> None:
    """Rounds score anew what the round before left."""
    recipes = "recipes: [none, {use: finetune, epochs: 1}]"
    assert recipes in TOY_SUITE
    text = TOY_SUITE.replace(recipes, "recipes: [none, {use: none, rounds: 2}, {use: iterative, epochs: 1}]")
    work = make_plan(suite_from_text(text, toy_registry), toy_registry).shared_work()
    assert (work["cells"], work["scoring_passes"], work["scored_once"]) == (14, 1, 4)


def test_dense_stands_once_a_model_seed_and_training(toy_registry: Registry) -> None:
    plan = make_plan(suite_from_text(TOY_SUITE + "seeds: [0, 1]\n", toy_registry), toy_registry)
    dense = [cell for cell in plan.cells if cell.pruner is None]
    assert [(cell.pruner_label, cell.recipe.label, cell.sparsity, cell.seed) for cell in dense] == [
        (DENSE, "none", 0.0, 0), (DENSE, "none", 0.0, 1),
        (DENSE, "finetune(epochs=1)", 0.0, 0), (DENSE, "finetune(epochs=1)", 0.0, 1),
    ]  # fmt: skip
    assert all(cell.sparsity > 0 for cell in plan.cells if cell.pruner)


def test_no_dense_without_sparsity_zero(toy_registry: Registry) -> None:
    plan = make_plan(suite_from_text(TOY_SUITE.replace("[0, 0.5, 0.9]", "[0.5]"), toy_registry), toy_registry)
    assert all(cell.pruner for cell in plan.cells)


def keys(text: str, registry: Registry) -> set[str]:
    return {cell.key for cell in make_plan(suite_from_text(text, registry), registry).cells}


def test_keys_are_of_content_not_of_place(toy_registry: Registry) -> None:
    """A cell keeps its key in a larger suite, under another suite name, and with knobs turned."""
    base = keys(TOY_SUITE, toy_registry)
    assert base < keys(TOY_SUITE.replace("0.9]", "0.9, 0.95]"), toy_registry)
    assert base == keys(TOY_SUITE.replace("name: toy", "name: other"), toy_registry)
    assert base == keys(TOY_SUITE + "batch_size: 3\n", toy_registry)


def test_data_is_part_of_a_key_only_where_it_is_used(toy_registry: Registry) -> None:
    base = make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry).cells
    other = make_plan(
        suite_from_text(TOY_SUITE + "data: {use: toy-data, count: 8}\n", toy_registry), toy_registry
    ).cells
    for a, b in zip(base, other, strict=True):
        assert (a.key == b.key) == (a.recipe.label == "none"), a.label


def test_scope_is_part_of_the_key_of_pruned_cells_only(toy_registry: Registry) -> None:
    base = make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry).cells
    other = make_plan(suite_from_text(TOY_SUITE + "scope: {head: false}\n", toy_registry), toy_registry).cells
    for a, b in zip(base, other, strict=True):
        assert (a.key == b.key) == (a.pruner is None)


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["sparsity=0.5"], 4),
        (["sparsity=.50"], 4),
        (["sparsity=0"], 2),
        (["recipe=none"], 1 + 4),
        (["pruner=toy-pruner"], 2 + 4),
        (["pruner=toy-pruner*"], 10),
        (["pruner=toy-pruner", "pruner=toy-pruner(allocation=uniform)"], 10),
        (["pruner=*(allocation=*)"], 2 + 4),
        (["recipe=finetune(epochs=1)"], 2 + 4),
        (["pruner=toy-pruner(allocation=uniform)"], 2 + 4),
        (["pruner=dense"], 2),
        (["recipe=none", "sparsity=.5", "sparsity=.9"], 4),
        (["models=toy-net"], 10),
        (["task=toy-task"], 10),
        (["seed=0"], 10),
    ],
)
def test_filters(only: list[str], expected: int, toy_registry: Registry) -> None:
    assert len(make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry, only).cells) == expected


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (["sparsity=0.5"], 2 + 4),
        (["sparsity=0"], 8),
        (["pruner=toy-pruner"], 2 + 4),
        (["pruner=dense"], 8),
        (["recipe=none"], 2 + 4),
        (["recipe=finetune*"], 1 + 4),
        (["pruner=toy-pruner", "recipe=finetune*"], 1 + 2),
    ],
)
def test_filters_of_what_to_leave_out(without: list[str], expected: int, toy_registry: Registry) -> None:
    assert len(make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry, (), without).cells) == expected


@pytest.mark.parametrize(
    ("without", "words"),
    [
        (["pruner=toy-prunner"], "--not pruner=toy-prunner: the suite has no such pruner; did you mean 'toy-pruner'"),
        (["model=*"], "--not model=*: no cell of suite 'toy' is left"),
        (["task=toy-task"], "--not task=toy-task: no task of suite 'toy' is left"),
    ],
)
def test_leaving_out_too_much(without: list[str], words: str, toy_registry: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry, (), without)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("only", "words"),
    [
        (["pruner=toy-prunner"], "did you mean 'toy-pruner'"),
        (["prunner=x"], "did you mean 'pruner'"),
        (["pruner"], "KIND=LABEL"),
        (["recipe=finetune"], "labels are exact: write 'finetune(epochs=1)', or 'finetune*' for all of them"),
        (["sparsity=half"], "a number"),
        (["sparsity=.6"], "no such sparsity"),
        (["task=toy-tusk"], "did you mean 'toy-task'"),
        (["sparsity=0", "pruner=toy-pruner", "cell=0"], "no such cell"),
    ],
)
def test_filters_that_match_nothing(only: list[str], words: str, toy_registry: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry, only)
    assert words in str(caught.value)


def test_suite_metrics_add_to_and_replace_those_of_tasks(toy_registry: Registry) -> None:
    plan = make_plan(suite_from_text(TOY_SUITE, toy_registry), toy_registry)
    assert [metric.label for metric in plan.tasks[0].metrics] == ["toy-accuracy", "toy-margin"]
    text = TOY_SUITE.replace("[toy-margin]", "[{use: toy-margin, scale: 2.0}, toy-accuracy]")
    plan = make_plan(suite_from_text(text, toy_registry), toy_registry)
    assert sorted(metric.label for metric in plan.tasks[0].metrics) == ["toy-accuracy", "toy-margin(scale=2)"]


def test_missing_data_is_named(toy_registry: Registry) -> None:
    text = TOY_SUITE.replace("split: test", "absent: true")
    missing = make_plan(suite_from_text(text, toy_registry), toy_registry).missing()
    assert missing == ["dataset toy-data(absent=True): not here; fetch it with `toy fetch`"]


def test_a_metric_beside_itself_with_other_fields_stays(toy_registry: Registry) -> None:
    """The suite's settings replace the default of a task, not what the suite asks for itself."""
    text = TOY_SUITE.replace("metrics: [toy-margin]", "metrics: METRICS")
    labels = {
        given: [m.label for m in make_plan(suite_from_text(text.replace("METRICS", given), toy_registry), toy_registry).tasks[0].metrics]
        for given in ("[toy-margin, {use: toy-margin, scale: 2}]", "[{use: toy-accuracy}, toy-margin]")
    }  # fmt: skip
    assert list(labels.values()) == [
        ["toy-accuracy", "toy-margin", "toy-margin(scale=2)"], ["toy-accuracy", "toy-margin"],
    ]  # fmt: skip
