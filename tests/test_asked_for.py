"""What a suite asks for is there, or somebody says why not: seeds, metrics, labels, fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import toybench_parts
from kit.runs import run
from kit.toysuite import TOY_SUITE

from pruningbench.contract import ArraySamples, Context, Model, PruningContext, ScorePruner, VisionModel, param
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Plugin, Registry
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
    from pruningbench.suite.plan import score_identity

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
