"""The dense model that tasks compare with by themselves: the reference of the cell's recipe, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from kit.runs import run
from pruningbench_recipes.basic import Finetune
from pruningbench_transfer.similarity import linear_cka

from pruningbench.base.identity import derive_seed, tensors_digest
from pruningbench.contract import Concepts, Context, RecipeJob, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.harness import comparing
from pruningbench.harness.shelves import load_model
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Plugin, Registry
from pruningbench.store.cache import Cache
from pruningbench.store.weights import load_weights
from pruningbench.suite.binding import bind
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text
from pruningbench.training.fit import fit

SUITE = """\
name: toy
models: [toy-net]
pruners: [magnitude]
sparsities: [0, 0.5]
recipes: [none, {use: finetune, epochs: 2}]
seeds: [0, 1]
keep: weights
tasks:
  - {use: dense-similarity, data: {use: toy-data, split: test}}
  - {use: toy-task, data: {use: toy-data, split: test}}
"""
MAPS = """\
  - {use: interpretability, data: {use: toy-data, split: test}, methods: [saliency], samples: all, target: predicted}
metrics: [map-ssim]
"""
LRR = SUITE.replace("{use: finetune, epochs: 2}", "{use: iterative, levels: [0.3, 0.5], epochs: 1}")


def rows(folder: Path) -> pd.DataFrame:
    table = load_results(folder, details=True)
    return table[table["metric"] == "linear-cka"].set_index(["pruner", "recipe", "sparsity", "seed"])


def toy(registry: Registry) -> VisionModel:
    def context(seed: int) -> Context:
        return Context(torch.device("cpu"), seed, Cache(), lambda _: None)  # type: ignore[arg-type, return-value]

    return load_model(bind(registry, "model", "toy-net"), context)


def data(registry: Registry, split: str) -> Any:
    return bind(registry, "dataset", {"use": "toy-data", "split": split}).component.load(None)  # type: ignore[attr-defined]


def embeddings(model: VisionModel, registry: Registry) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model.embed(batch.images) for batch in model.batches(data(registry, "test"), 64)])


def test_similarity_is_to_the_dense_network_that_the_recipe_trained(toy_registry: Registry, tmp_path: Path) -> None:
    suite = suite_from_text(SUITE, toy_registry)
    run(SUITE, toy_registry, tmp_path / "run")
    table = rows(tmp_path / "run")
    recipe = suite.recipes[1]
    assert isinstance(recipe.component, Finetune)
    for cell in make_plan(suite, toy_registry).cells:
        row = table.loc[(cell.pruner_label, cell.recipe.label, cell.sparsity, cell.seed)]
        if not cell.trained:
            loaded = toy(toy_registry)
            assert row["made_of"]["reference"] == f"as loaded {loaded.fingerprint}"
            continue
        dense = toy(toy_registry)
        seed = derive_seed(cell.seed, "recipe", recipe.identity(without="training"))
        fit(dense, data(toy_registry, "train"), recipe.component, seed=seed)
        digest = tensors_digest(dict(dense.network.state_dict()))[:16]
        assert row["made_of"]["reference"] == f"finetune {digest}"
        if cell.pruner is None:
            assert row["value"] == pytest.approx(1.0)
            continue
        pruned = toy(toy_registry)
        pruned.network.load_state_dict(load_weights(tmp_path / "run", cell.key))
        expected = float(linear_cka(embeddings(pruned, toy_registry), embeddings(dense, toy_registry)))
        assert row["value"] == pytest.approx(expected, abs=1e-6)
        as_loaded = float(linear_cka(embeddings(pruned, toy_registry), embeddings(toy(toy_registry), toy_registry)))
        assert abs(row["value"] - as_loaded) > 1e-3
    other = load_results(tmp_path / "run", details=True)
    other = other[other["task"] == "toy-task"]
    assert not any("reference" in made_of for made_of in other["made_of"])  # this task compares with nothing


def test_values_do_not_depend_on_which_references_stay_in_memory(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(SUITE, toy_registry, tmp_path / "many")
    monkeypatch.setattr(comparing, "MOST_KEPT", 1)
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "fresh"))
    alone = SUITE.replace("seeds: [0, 1]", "seeds: [1]").replace("sparsities: [0, 0.5]", "sparsities: [0.5]")
    run(alone, toy_registry, tmp_path / "alone")  # no cell of sparsity 0: the reference is made when asked for
    many, one = rows(tmp_path / "many"), rows(tmp_path / "alone")
    for key in one.index:
        assert one.loc[key, "value"] == many.loc[key, "value"]
        assert one.loc[key, "made_of"]["reference"] == many.loc[key, "made_of"]["reference"]


@dataclass(frozen=True)
class NoDense(Finetune):
    """Fails where nothing is to be pruned."""

    tries: ClassVar[list[float]] = []

    def run(self, job: RecipeJob) -> Any:
        self.tries.append(job.sparsity)
        if not job.sparsity:
            raise PruningBenchError("no luck with dense networks")
        return super().run(job)


@pytest.fixture
def registry(toy_registry: Registry) -> Registry:
    own = Registry({kind: dict(entries) for kind, entries in toy_registry.entries.items()}, [*toy_registry.plugins])
    own.add("recipe", "no-dense", NoDense, Plugin("lucky", "lucky", "1"))
    NoDense.tries.clear()
    return own


def test_a_missing_reference_loses_only_what_compares_with_it(registry: Registry, tmp_path: Path) -> None:
    text = SUITE.replace("{use: finetune, epochs: 2}", "no-dense") + MAPS
    summary = run(text, registry, tmp_path / "run")
    assert NoDense.tries.count(0.0) == 2  # once for each seed
    table = load_results(tmp_path / "run", details=True)
    table = table[table["status"] == "ok"]
    tuned = table[(table["recipe"] == "no-dense") & (table["sparsity"] == 0.5)]
    assert set(tuned["task"]) == {"toy-task", "interpretability"}
    assert "gini" in set(tuned["metric"]) and "map-ssim" not in set(tuned["metric"])
    lost = [r for r in summary.not_ok if r.sparsity == 0.5]
    assert {(r.task, r.metric) for r in lost} == {("dense-similarity", ""), ("interpretability", "map-ssim")}
    for record in lost:
        assert "there is no dense reference of recipe 'no-dense' to compare with: no luck" in record.error
    as_loaded = table[(table["recipe"] == "none") & (table["sparsity"] == 0.5)]
    assert {"map-ssim", "linear-cka"} <= set(as_loaded["metric"])


def test_a_reference_that_failed_in_an_earlier_run_is_not_tried_again(registry: Registry, tmp_path: Path) -> None:
    text = SUITE.replace("{use: finetune, epochs: 2}", "no-dense").replace("seeds: [0, 1]", "seeds: [0]")
    run(text, registry, tmp_path / "run")
    before = NoDense.tries.count(0.0)
    summary = run(text.replace("[0, 0.5]", "[0, 0.5, 0.7]"), registry, tmp_path / "run")
    assert NoDense.tries.count(0.0) == before
    (lost,) = [r for r in summary.not_ok if r.sparsity == 0.7]
    assert lost.task == "dense-similarity" and "to compare with: " in lost.error and "no luck" in lost.error


def test_learning_rate_rewinding_has_a_reference_of_as_many_rounds(toy_registry: Registry, tmp_path: Path) -> None:
    suite = suite_from_text(LRR, toy_registry)
    plan = make_plan(suite, toy_registry)
    assert plan.shared_work()["trainings"] == 2 * (2 + 2)  # two seeds, two levels, two rounds of the reference
    run(LRR, toy_registry, tmp_path / "run")
    recipe = suite.recipes[1]
    seed = derive_seed(0, "recipe", recipe.identity(without="training"))
    dense = toy(toy_registry)
    for k in (1, 2):
        stage = derive_seed(seed, f"round {k}")
        fit(dense, data(toy_registry, "train"), recipe.component, seed=stage)  # type: ignore[arg-type]
    digest = tensors_digest(dict(dense.network.state_dict()))[:16]
    row = rows(tmp_path / "run").loc[("dense", recipe.label, 0.0, 0)]
    assert row["made_of"]["network"] == digest and row["made_of"]["rounds"] == "2"


@pytest.mark.parametrize("rewind", ["pretrained", "init", "early"])
def test_where_weights_are_reset_the_reference_has_one_training(toy_registry: Registry, rewind: str) -> None:
    text = LRR.replace("epochs: 1", f"epochs: 2, rewind: {rewind}")
    plan = make_plan(suite_from_text(text, toy_registry), toy_registry)
    assert {cell.rounds for cell in plan.cells} == {1}


def test_a_suite_that_grows_by_a_round_measures_again_what_compares(
    toy_registry: Registry, tmp_path: Path, toy_log: Callable[[], list[str]]
) -> None:
    run(LRR, toy_registry, tmp_path / "run")
    before = len([line for line in toy_log() if line.startswith("task")])
    grown = LRR.replace("sparsities: [0, 0.5]", "sparsities: [0, 0.5, 0.7]")
    summary = run(grown, toy_registry, tmp_path / "run")
    assert summary.ok
    # toy-task, which compares with nothing: two new cells of sparsity .7 under each recipe, and two new references
    assert len([line for line in toy_log() if line.startswith("task")]) - before == 2 * 2 + 2
    table = rows(tmp_path / "run")
    label = suite_from_text(grown, toy_registry).recipes[1].label
    made_of = table.loc[("magnitude", label, 0.5, 0), "made_of"]
    assert made_of["reference"] == f"{label} {table.loc[('dense', label, 0.0, 0), 'made_of']['network']}"
    assert made_of["rounds"] == "3"


def test_concepts_whose_reference_is_missing_lose_the_drift_and_say_why() -> None:
    from pruningbench_interpretability.concept_metrics import ConceptConcentration, ConceptDrift

    ones = torch.ones(1, 1)
    alone = Concepts(ones, torch.zeros(1, dtype=torch.int64), torch.ones(1), ones, torch.zeros(1, dtype=torch.int64),
                     torch.zeros(1, dtype=torch.int64), torch.zeros(1, 4), ones, 1)  # fmt: skip
    assert not ConceptDrift().applies(alone)  # nothing to compare with was asked for
    lacking = replace(alone, lacking="there is no dense reference")
    assert ConceptDrift().applies(lacking) and ConceptConcentration().applies(lacking)
    with pytest.raises(PruningBenchError, match="there is no dense reference"):
        ConceptDrift().values(lacking)
    assert len(ConceptConcentration().values(lacking)) == 1
