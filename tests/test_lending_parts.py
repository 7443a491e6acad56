"""Careless metrics, thresholds and recipes: each metric gets what the task yielded, each sparsity the same scores, and a
network is the dense one with other weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from kit.runs import run
from kit.toysuite import TOY_SUITE
from torch import Tensor, nn

from pruningbench.base.surroundings import Surroundings
from pruningbench.contract import (
    ArraySamples,
    HumanLabelCounts,
    Metric,
    Outputs,
    Predictions,
    PruningContext,
    Recipe,
    RecipeJob,
    ScorePruner,
    param,
)
from pruningbench.errors import PluginError
from pruningbench.harness import lent as lent_module
from pruningbench.harness.lent import LentOutputs, LentSamples
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Plugin, Registry
from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class CarelessMetric(Metric):
    """Share of right predictions, by a metric that damages what it was given."""

    consumes: ClassVar[type[Outputs]] = Predictions
    damage: str = param("in place", doc="what to do with the outputs")

    def values(self, outputs: Predictions) -> Tensor:
        right = (outputs.scores.argmax(1) == outputs.labels).float()
        match self.damage:
            case "in place":
                outputs.scores.zero_()
            case "data":
                outputs.scores.data = torch.zeros(1)
            case "field":
                object.__setattr__(outputs, "labels", outputs.labels * 0)
            case "raise":
                outputs.scores.zero_()
                raise RuntimeError("halfway")
        return right


@dataclass(frozen=True)
class Drawing(Metric):
    """Draws from the global random state."""

    consumes: ClassVar[type[Outputs]] = Predictions
    name: str = param("a", doc="tells uses apart")

    def values(self, outputs: Predictions) -> Tensor:
        return torch.rand(len(outputs.labels))


@dataclass(frozen=True)
class Sorting(Metric):
    """A median that may sort in place."""

    consumes: ClassVar[type[Outputs]] = Predictions
    in_place: bool = param(False, doc="sort the array that it was given")

    def values(self, outputs: Predictions) -> Tensor:
        return outputs.scores[:, 0]

    def aggregate(self, values: Any) -> float:
        if self.in_place:
            values.sort()
        return float(np.sort(values)[len(values) // 2])


@dataclass(frozen=True)
class CarelessThreshold(ScorePruner):
    """Turns the scores round after each threshold, or draws while thresholding."""

    draws: bool = param(False, doc="threshold random scores instead")

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        return {name: p.detach().abs() for name, p in context.parameters.items()}

    def threshold(self, scores: Mapping[str, Tensor], sparsity: float) -> Masks:
        if self.draws:
            return super().threshold({name: torch.rand_like(score) for name, score in scores.items()}, sparsity)
        masks = super().threshold(scores, sparsity)
        for score in scores.values():
            score.neg_()
        return masks


def _eps(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 10.0


LEFT: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "hook": (lambda network: network.register_forward_hook(lambda _m, _i, out: out * 0), "hooks"),
    "settings": (_eps, "settings of modules changed, the first '1.eps'"),
    "forward": (lambda network: setattr(network, "forward", lambda x: x.flatten(1)[:, :2] * 0), "forward"),
    "half": (lambda network: network.half(), "dtypes"),
    "frozen": (lambda network: network.requires_grad_(False), "requires_grad"),
}


@dataclass(frozen=True)
class CarelessRecipe(Recipe):
    """Prunes, and leaves something else than weights on the network; or undoes the pruning."""

    trains: ClassVar[bool] = True
    leaves: str = param("hook", doc="what to leave")

    def needs_data(self) -> bool:
        return False

    def run(self, job: RecipeJob) -> Masks:
        before = copy.deepcopy(job.model.network.state_dict())
        masks = job.prune(job.model, job.sparsity)
        if self.leaves == "weights":
            job.model.network.load_state_dict(before)
        elif self.leaves == "module":
            job.model.network.add_module("another", nn.Linear(2, 2))
        else:
            LEFT[self.leaves][0](job.model.network)
        return masks


@pytest.fixture
def registry(toy_registry: Registry) -> Registry:
    extended = toy_registry.copy()
    careless = Plugin("careless", "careless", "1")
    extended.add("metric", "careless", CarelessMetric, careless)
    extended.add("metric", "drawing", Drawing, careless)
    extended.add("metric", "sorting", Sorting, careless)
    extended.add("pruner", "careless", CarelessThreshold, careless)
    extended.add("recipe", "careless", CarelessRecipe, careless)
    return extended


SMALL = (
    TOY_SUITE.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[toy-pruner]")
    .replace("recipes: [none, {use: finetune, epochs: 1}]\n", "")
    .replace("metrics: [toy-margin]\n", "")
)


def values(out: Path, **where: Any) -> pd.DataFrame:
    table = load_results(out, details=True)
    for column, value in where.items():
        table = table[table[column] == value]
    columns = ["recipe", "sparsity", "metric", "value", "ci_low", "ci_high", "sparsity_achieved"]
    return table[columns].reset_index(drop=True)


@pytest.mark.parametrize("damage", ["in place", "data", "field", "raise"])
def test_a_careless_metric_moves_no_other_metrics_values(damage: str, registry: Registry, tmp_path: Path) -> None:
    clean = SMALL.replace("[0, 0.5, 0.9]", "[0, 0.5]") + "metrics: [toy-margin]\n"
    run(clean, registry, tmp_path / "clean")
    mixed = clean.replace("[toy-margin]", f"[{{use: careless, damage: {damage}}}, toy-margin]")
    assert bool(run(mixed, registry, tmp_path / "mixed").not_ok) == (damage == "raise")
    for metric in ("toy-accuracy", "toy-margin"):
        pd.testing.assert_frame_equal(
            values(tmp_path / "mixed", metric=metric), values(tmp_path / "clean", metric=metric)
        )
    (said,) = {text for text in load_results(tmp_path / "mixed", details=True)["notes"] if text}
    assert said.startswith("metric 'careless")
    assert "outputs" in said


def test_what_a_metric_draws_does_not_depend_on_the_other_metrics(registry: Registry, tmp_path: Path) -> None:
    one = SMALL.replace("[0, 0.5, 0.9]", "[0]") + "metrics: [{use: drawing, name: b}]\n"
    run(one, registry, tmp_path / "one")
    run(one.replace("[{", "[{use: drawing, name: c}, {"), registry, tmp_path / "two")
    pd.testing.assert_frame_equal(
        values(tmp_path / "one", metric="drawing(name=b)"), values(tmp_path / "two", metric="drawing(name=b)")
    )


def test_a_statistic_that_sorts_in_place_keeps_the_pairs_of_resamples(registry: Registry, tmp_path: Path) -> None:
    run(SMALL + "metrics: [sorting, {use: sorting, in_place: true}]\n", registry, tmp_path / "run")
    good, careless = (
        values(tmp_path / "run", metric=metric).drop(columns="metric")
        for metric in ("sorting", "sorting(in_place=True)")
    )
    assert len(good) == 3
    pd.testing.assert_frame_equal(good, careless)


@pytest.mark.parametrize("draws", ["false", "true"])
def test_a_sparsity_has_the_same_masks_alone_and_after_others(
    draws: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SMALL.replace("[toy-pruner]", f"[{{use: careless, draws: {draws}}}]")
    run(text, registry, tmp_path / "all")
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "another cache"))
    torch.manual_seed(5)
    run(text.replace("[0, 0.5, 0.9]", "[0, 0.9]"), registry, tmp_path / "one")
    pd.testing.assert_frame_equal(values(tmp_path / "all", sparsity=0.9), values(tmp_path / "one", sparsity=0.9))
    said = " ".join(load_results(tmp_path / "all", details=True)["notes"])
    assert ("scores were changed" in said) == (draws == "false")


@pytest.mark.parametrize("leaves", LEFT)
def test_a_network_has_the_same_values_when_it_was_just_made_as_from_the_cache(
    leaves: str, registry: Registry, tmp_path: Path
) -> None:
    text = SMALL.replace(
        "sparsities: [0, 0.5, 0.9]", f"sparsities: [0.5]\nrecipes: [{{use: careless, leaves: {leaves}}}]"
    )
    assert not run(text, registry, tmp_path / "made").not_ok
    assert not run(text, registry, tmp_path / "kept").not_ok
    pd.testing.assert_frame_equal(values(tmp_path / "made"), values(tmp_path / "kept"))
    (said,) = {text for text in load_results(tmp_path / "made", details=True)["notes"] if text}
    assert said.startswith(
        f"recipe 'careless{'' if leaves == 'hook' else f'(leaves={leaves})'}' with pruner 'toy-pruner'"
    )
    assert LEFT[leaves][1] in said


@pytest.mark.parametrize(
    ("leaves", "words"),
    [("weights", "left 164 weights that pruner 'toy-pruner' pruned"), ("module", "the dense one's")],
)
def test_a_network_that_is_not_as_sparse_as_it_says_has_no_values(
    leaves: str, words: str, registry: Registry, tmp_path: Path
) -> None:
    text = SMALL.replace(
        "sparsities: [0, 0.5, 0.9]", f"sparsities: [0.5]\nrecipes: [{{use: careless, leaves: {leaves}}}]"
    )
    summary = run(text, registry, tmp_path / "run")
    assert len(summary.not_ok) == 1
    assert words in summary.not_ok[0].error


def test_masks_answers_and_keys_of_a_data_set_are_restored() -> None:
    images, counts = torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.ones(3, 2, dtype=torch.int64)
    samples = ArraySamples(images, torch.arange(3) % 2, masks=torch.ones(3, 4, 4, dtype=torch.bool), classes=("a", "b"))
    samples.human = HumanLabelCounts(counts)
    guard, keys, human = LentSamples(samples), samples.keys, samples.human
    assert guard.collect() == []
    samples.masks.zero_()
    samples.human.counts.zero_()
    assert guard.collect() == ["labels, boxes or images of a data set were changed"]
    samples.keys, samples.human, samples.images = ("x", "y", "z"), None, images + 1
    assert guard.collect() == ["an attribute of a data set was replaced"]
    assert bool(samples.masks.all()) and bool(counts.eq(1).all()) and samples.images is images
    assert (samples.keys, samples.human) == (keys, human)


def test_outputs_too_large_for_a_copy_fail_the_metric_that_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lent_module, "_LARGEST_COPIED", 4)
    outputs = Predictions(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    guard = LentOutputs(outputs)
    assert guard.collect() == []
    outputs.scores.add_(1)
    with pytest.raises(PluginError, match="too large to be restored"):
        guard.collect()


def test_an_open_region_of_autocast_is_closed_so_that_later_training_sees_its_own_steps() -> None:
    """Copies of weights in low precision are kept until the outermost region ends; an open one kept them for ever."""
    found = Surroundings()
    torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
    assert found.collect() == ["autocast was left on or changed", "a region of autocast was opened or closed"]
    layer, seen = nn.Linear(1, 1), []
    for value in (1.0, 2.0):
        with torch.no_grad():
            layer.weight.fill_(value)
        with torch.autocast("cpu", torch.bfloat16):
            seen.append(float(layer(torch.ones(1, 1)) - layer.bias))
    assert seen[1] - seen[0] == pytest.approx(1, abs=0.05)


@dataclass(frozen=True)
class Percent(Metric):
    """States a share, and gives per cent; or overshoots the limit by a rounding error."""

    consumes: ClassVar[type[Outputs]] = Predictions
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    value: float = param(50.0, doc="of each sample")

    def values(self, outputs: Predictions) -> Tensor:
        return torch.full((len(outputs.labels),), self.value, dtype=torch.float64)


def test_a_value_outside_the_range_that_a_metric_states_is_its_failure(toy_registry: Registry, tmp_path: Path) -> None:
    toy_registry.add("metric", "percent", Percent, Plugin("bad", "badbench", "1"))
    added = "metrics: [percent, {use: percent, value: 1.0000001}, {use: percent, value: 0.5}]"
    summary = run(TOY_SUITE.replace("metrics: [toy-margin]", added), toy_registry, tmp_path / "run")
    errors = {record.error.splitlines()[-1].partition(": ")[2] for record in summary.not_ok}
    assert errors == {"metric 'percent' is 50, outside the range [0, 1] that it states"}
    table = load_results(tmp_path / "run")
    fine = table[table["metric"].str.startswith("percent(") & (table["status"] == "ok")]
    assert fine["metric"].nunique() == 2, "rounding is no failure"
