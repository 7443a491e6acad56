"""What a suite asks for is there, or somebody says why not: seeds, metrics, labels, fingerprints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import toybench_parts
from kit.runs import run
from kit.toysuite import TOY_SUITE

from pruningbench.contract import (
    ArraySamples,
    Attributions,
    Context,
    DatasetRef,
    Model,
    Outputs,
    Predictions,
    PruningContext,
    ScorePruner,
    Task,
    VisionModel,
    param,
)
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Plugin, Registry
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import read_arrays
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import load_suite, suite_from_text

ONE = (
    TOY_SUITE.replace("recipes: [none, {use: finetune, epochs: 1}]", "recipes: [none]").replace(
        "[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[{use: snip, batches: 1}]"
    )
    + "data: {use: toy-data, count: 300}\n"
)


@pytest.fixture()
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """What SNIP was given: (seed, images)."""
    from pruningbench_pai.sensitivity import Snip

    found: list[tuple[int, bytes]] = []
    score = Snip.score

    def watched(self: Snip, context: PruningContext) -> dict[str, torch.Tensor]:
        assert context.batches is not None
        images, _ = next(iter(context.batches()))
        found.append((context.seed, images.numpy().tobytes()))
        return score(self, context)

    monkeypatch.setattr(Snip, "score", watched)
    return found


def test_each_seed_scores_other_samples(toy_registry: Registry, tmp_path: Path, seen: list[tuple[int, bytes]]) -> None:
    run(ONE + "seeds: [0, 1]\n", toy_registry, tmp_path / "two")
    assert [seed for seed, _ in seen] == [0, 1]  # one pass a seed, whatever the sparsities
    assert seen[0][1] != seen[1][1]
    work = make_plan(suite_from_text(ONE + "seeds: [0, 1]\n", toy_registry), toy_registry).shared_work()
    assert work["scoring_passes"] == 2
    frame = load_results(tmp_path / "two")
    values = frame[(frame["metric"] == "toy-margin") & (frame["sparsity"] == 0.5)].set_index("seed")["value"]
    assert values[0] != values[1]


def test_seed_zero_scores_what_it_always_did(
    toy_registry: Registry, tmp_path: Path, seen: list[tuple[int, bytes]]
) -> None:
    from pruningbench.base.randomness import generator_for
    from pruningbench.suite.cells import score_identity

    run(ONE, toy_registry, tmp_path / "run")
    samples = toybench_parts.ToyData(count=300).load(None)  # type: ignore[arg-type]
    order = torch.randperm(300, generator=generator_for("scoring order"))[:128]
    expected = (samples.images[order].float() / 255 - 0.5) / 0.5
    assert torch.allclose(torch.frombuffer(bytearray(seen[0][1]), dtype=torch.float32).view(128, 1, 6, 6), expected)
    cells = make_plan(suite_from_text(ONE + "seeds: [0, 3]\n", toy_registry), toy_registry).cells
    assert [score_identity(cell)["seed"] for cell in cells if cell.sparsity == 0.5] == [None, 3]


def test_a_metric_that_applies_to_nothing_is_named(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE.replace("[toy-margin]", "[toy-margin, gini]"), toy_registry, tmp_path / "run")
    frame = load_results(tmp_path / "run")
    assert set(frame["inapplicable"]) == {"gini"}
    (board,) = build(frame, [tmp_path / "run"])
    assert "gini applies to nothing that toy-task yields." in board.notes
    assert "gini applies to nothing" in " ".join(render([board], "table").split())


@dataclass(frozen=True)
class Headed(Model):
    """A model whose only field is required, as `ridge-headed` has them."""

    training_data: ClassVar[Any] = "toy-data"
    size: int = param(doc="channels")

    def load(self, context: Context) -> VisionModel:
        return toybench_parts.ToyModel(width=self.size).load(context)


@dataclass(frozen=True)
class Picky(ScorePruner):
    """Refuses small networks, by a required field."""

    least: int = param(doc="fewest channels")

    def refuses(self, network: torch.nn.Module) -> str | None:
        return "too small" if network[0].out_channels < self.least else None  # type: ignore[index, operator]

    def score(self, context: PruningContext) -> dict[str, torch.Tensor]:
        return {name: p.detach().abs() for name, p in context.parameters.items()}


def test_uses_that_differ_in_a_required_field_have_labels_of_their_own(toy_registry: Registry, tmp_path: Path) -> None:
    registry = Registry({kind: dict(entries) for kind, entries in toy_registry.entries.items()}, toy_registry.plugins)
    plugin = Plugin("here", "tests", "1")
    registry.add("model", "headed", Headed, plugin)
    registry.add("pruner", "picky", Picky, plugin)
    text = (
        "name: two\nmodels: [{use: headed, size: 4}, {use: headed, size: 8}]\nsparsities: [0.5]\n"
        "pruners: [{use: picky, least: 6}, {use: picky, least: 1}]\n"
        "tasks: [{use: toy-task, data: {use: toy-data, split: test}}]\n"
    )
    suite = suite_from_text(text, registry)
    assert [use.label for use in suite.models] == ["headed(size=4)", "headed(size=8)"]
    assert [use.label for use in suite.pruners] == ["picky(least=6)", "picky(least=1)"]
    summary = run(text, registry, tmp_path / "run")
    assert [(record.model, record.pruner, record.status) for record in summary.not_ok] == [
        ("headed(size=4)", "picky(least=6)", "skipped")
    ]
    alone = suite_from_text(text.replace(", {use: headed, size: 8}", ""), registry)
    assert alone.models[0].label == "headed"  # one use needs no telling apart


def test_shipped_labels_stay_and_are_distinct(toy_registry: Registry) -> None:
    for name in ("quickstart", "pruners-cifar", "iurada2025-small", "cassano2025-snip"):
        suite = load_suite(name, toy_registry)
        for axis in (suite.models, suite.pruners, suite.recipes, suite.metrics):
            assert len({use.label for use in axis}) == len(axis)
    assert load_suite("quickstart", toy_registry).models[0].label == "digits-resnet"


def test_a_data_set_without_fingerprint_is_refused(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ArraySamples, "_fingerprint", lambda _self: "")
    summary = run(ONE, toy_registry, tmp_path / "run")
    assert len(summary.not_ok) == 3
    assert all("dataset 'toy-data': its fingerprint is ''" in record.error for record in summary.not_ok)


@dataclass(frozen=True)
class OwnSamples(Task):
    """Predicts what the network is surest of: other samples for each network, as `samples: correct` gives."""

    metrics: ClassVar[tuple[str, ...]] = ("toy-accuracy",)
    data: DatasetRef = param(doc="what to predict")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        samples = context.open_dataset(self.data)
        scores = context.logits(model, samples)
        sure = scores.softmax(1).amax(1).argsort(descending=True)[:40]
        assert samples.labels is not None
        yield "", Predictions(scores[sure], samples.labels[sure], keys=tuple(samples[int(i)].key for i in sure))


def test_differences_are_of_the_samples_that_both_networks_have(toy_registry: Registry, tmp_path: Path) -> None:
    registry = Registry({kind: dict(entries) for kind, entries in toy_registry.entries.items()}, toy_registry.plugins)
    registry.add("task", "own-samples", OwnSamples, Plugin("here", "tests", "1"))
    text = TOY_SUITE.replace("toy-task", "own-samples").replace("recipes: [none, {use: finetune, epochs: 1}]", "")
    run(text, registry, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    (board,) = build(load_results(folder.path), [folder.path])
    stored = {}
    for record in load_results(folder.path).drop_duplicates("cell").to_dict("records"):
        arrays = read_arrays(folder.samples_file(record["cell"], "own-samples"))
        stored[record["pruner"], record["sparsity"]] = dict(
            zip(arrays["keys of "], arrays["|toy-accuracy"], strict=True)
        )
    dense = stored["dense", 0.0]
    for row in board.rows[1:]:
        own = stored[row.pruner, row.sparsity]
        shared = sorted(set(own) & set(dense))
        change = row.differences["own-samples", "", "toy-accuracy"]
        assert 0 < len(shared) < 40 and change.n == len(shared)
        assert change.value == pytest.approx(sum(own[key] - dense[key] for key in shared) / len(shared))


def test_explained_images_are_their_own_keys() -> None:
    maps, images = torch.rand(3, 4, 4), torch.rand(3, 1, 4, 4)
    chosen = Attributions(maps, images, torch.zeros(3), lambda x: x, index=(1, 4, 5))
    assert chosen.keys == ("1", "4", "5")
    assert Attributions(maps, images, torch.zeros(3), lambda x: x, index=(0, 1, 2)).keys == ()
