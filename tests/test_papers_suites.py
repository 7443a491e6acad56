"""What the papers' full suites say of training, and what the page on costs says of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from pruningbench_recipes.iterative import Iterative
from pruningbench_recipes.settings import Training

from pruningbench.plugins import load_registry
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import load_suite
from pruningbench.training.optimizing import rate

COSTS = Path(__file__).resolve().parent.parent / "docs/costs.md"
CASSANO = ("cassano2025", "cassano2025-snip")


def plan_of(name: str, settings: Sequence[str] = ()) -> Plan:
    registry = load_registry()
    return make_plan(load_suite(name, registry, settings), registry)


def training_of(plan: Plan, model: str) -> Training:
    """The only recipe that trains a model."""
    uses = {cell.recipe.label: cell.recipe for cell in plan.cells if cell.model.label == model and cell.trained}
    (use,) = uses.values()
    assert isinstance(use.component, Training)
    return use.component


@pytest.mark.parametrize("name", [*CASSANO, "suwal2025", "iurada2025"])
def test_the_page_on_costs_counts_as_plans_do(name: str) -> None:
    (row,) = (line for line in COSTS.read_text("utf-8").splitlines() if re.match(rf"\| \[?`{name}`", line))
    cells, trainings = (re.match(r"\d+", column.strip()) for column in row.split("|")[2:4])
    assert cells is not None and trainings is not None
    plan = plan_of(name)
    assert (len(plan.cells), plan.shared_work()["trainings"]) == (int(cells[0]), int(trainings[0]))


@pytest.mark.parametrize("name", CASSANO)
def test_networks_of_cassano2025_are_trained_as_published(name: str) -> None:
    plan = plan_of(name)
    models = {use.label: use.component for use in plan.suite.models}
    assert list(models) == ["resnet18", "resnet50", "vit-b32", "vit-b16", "swin-v2-t"]
    for label, model in models.items():
        assert (model.pretrained, model.norm_init) == (False, "one")  # type: ignore[attr-defined]
        how = training_of(plan, label)
        assert (how.optimizer, how.lr, how.momentum, how.weight_decay, how.decay_all) == ("sgd", 0.1, 0.9, 1e-4, True)
        assert (how.schedule, how.step_epochs, how.augmentation) == ("step", 30, "crops")
        resnet = label.startswith("resnet")
        assert how.epochs == (90 if resnet else 300)
        added = (how.auto_augment, how.mixup, how.cutmix, how.erasing, how.label_smoothing, how.clip_norm)
        assert added == (("", 0, 0, 0, 0, 0) if resnet else ("rand-m9-mstd0.5-inc1", 0.8, 1.0, 0.25, 0.1, 1.0))


def test_both_halves_of_cassano2025_measure_the_same_networks_by_the_same_tasks() -> None:
    lrr, snip = (plan_of(name).suite.resolved() for name in CASSANO)
    for part in ("models", "tasks", "metrics", "data", "seeds"):
        assert lrr[part] == snip[part], part


def test_lrr_of_cassano2025_trains_to_completion_first() -> None:
    plan = plan_of("cassano2025")
    for model in plan.suite.models:
        how = training_of(plan, model.label)
        assert isinstance(how, Iterative)
        assert (how.dense_first, how.rewind, how.rate) == (True, "none", 0.2)
        assert how.trainings(0.95602)[0] == ["dense"] and how.rounds_of(0.95602) == 1 + 14


@pytest.mark.parametrize("name", CASSANO)
def test_the_rate_falls_every_30_epochs_whatever_their_number(name: str) -> None:
    how = training_of(plan_of(name, ["recipes.0.epochs=300"]), "resnet50")
    assert how.epochs == 300
    falls = [epoch for epoch in range(1, 300) if rate(epoch, 300, how) != rate(epoch - 1, 300, how)]
    assert falls == list(range(30, 300, 30))


def test_suwal2025_crops_photographs_and_decays_all() -> None:
    plan = plan_of("suwal2025")
    how = training_of(plan, plan.suite.models[0].label)
    assert isinstance(how, Iterative)
    assert (how.augmentation, how.decay_all, how.rewind, how.epochs) == ("crops", True, "init", 30)
