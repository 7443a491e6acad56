"""Careless components run beside good ones: nobody else's numbers move, and the culprit is named once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from kit.runs import run
from kit.toysuite import TOY_SUITE
from torch import Tensor, nn

from pruningbench.base.surroundings import Surroundings
from pruningbench.contract import (
    Context,
    DatasetRef,
    Outputs,
    Predictions,
    PruningContext,
    ScorePruner,
    Task,
    VisionModel,
    param,
)
from pruningbench.harness.lending import changes, same_bits
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Plugin, Registry


def _overwrite(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.data.mul_(0)


def _replace(network: nn.Module) -> None:
    name, module = next((n, m) for n, m in network.named_children() if isinstance(m, (nn.Linear, nn.Conv2d)))
    setattr(network, name, nn.Sequential(copy.deepcopy(module)))


def _gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)


def _settings(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 10.0


def _autocast(_network: nn.Module) -> None:
    torch.autocast("cpu", dtype=torch.bfloat16).__enter__()


DAMAGE: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "overwrite": (_overwrite, "parameters changed"),
    "train": (lambda network: network.train(), "its mode"),
    "half": (lambda network: network.half(), "changed"),
    "module": (_replace, "replaced"),
    "hook": (lambda network: network.register_forward_hook(lambda _m, _i, out: out * 0), "hooks"),
    "frozen": (lambda network: network.requires_grad_(False), "requires_grad"),
    "gradients": (_gradients, "gradients"),
    "forward": (lambda network: setattr(network, "forward", lambda x: x.flatten(1)[:, :2] * 0), "forward"),
    "settings": (_settings, "settings of modules changed"),
    "autocast": (_autocast, "autocast"),
    "device": (lambda _network: torch.set_default_device("meta"), "default device"),
    "backends": (lambda _network: setattr(torch.backends.mkldnn, "enabled", False), "backends"),
    "dtype": (lambda _network: torch.set_default_dtype(torch.float64), "default dtype"),
    "threads": (lambda _network: torch.set_num_threads(torch.get_num_threads() + 1), "threads"),
}


@dataclass(frozen=True)
class CarelessPruner(ScorePruner):
    """Scores by magnitude and leaves the network damaged."""

    damage: str = param("overwrite", doc="what to leave behind")

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        scores = {name: p.detach().abs().clone() for name, p in context.parameters.items()}
        DAMAGE[self.damage][0](context.network)
        return scores


@dataclass(frozen=True)
class CarelessTask(Task):
    """Predicts, and damages what it was lent."""

    metrics: ClassVar[tuple[str, ...]] = ("toy-accuracy",)
    data: DatasetRef = param(doc="what to predict")
    damage: str = param("overwrite", doc="what to damage")
    of: str = param("model", doc="model, dense, labels, images or logits")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        samples = context.open_dataset(self.data)
        scores = context.logits(model, samples).clone()
        labels = samples.labels.clone()
        match self.of:
            case "model":
                DAMAGE[self.damage][0](model.network)
            case "dense":
                DAMAGE[self.damage][0](context.dense.network)
                if self.damage not in ("half", "device"):  # which no image passes
                    context.logits(context.dense, samples)
            case "labels":
                samples.labels.zero_()
            case "images":
                samples.images.zero_()
                samples[0].image.zero_()
            case "logits":
                context.logits(model, samples).zero_()
        yield "", Predictions(scores, labels)


@pytest.fixture
def registry(toy_registry: Registry) -> Registry:
    extended = toy_registry.copy()
    careless = Plugin("careless", "careless", "1")
    extended.add("pruner", "careless", CarelessPruner, careless)
    extended.add("task", "careless-task", CarelessTask, careless)
    return extended


CLEAN = TOY_SUITE.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[toy-pruner]")
DATA = "{use: toy-data, split: test}"


def rows(out: Path, **where: str) -> pd.DataFrame:
    table = load_results(out, details=True)
    for column, value in where.items():
        table = table[table[column] == value]
    columns = ["pruner", "recipe", "sparsity", "task", "metric", "value", "ci_low", "ci_high", "sparsity_achieved"]
    return table[columns].reset_index(drop=True)


def notes(out: Path) -> list[str]:
    return [text for text in load_results(out, details=True)["notes"].unique() if text]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_careless_pruner_moves_nobody_elses_numbers(
    damage: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(CLEAN, registry, tmp_path / "clean")
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "another cache"))
    text = CLEAN.replace("[toy-pruner]", f"[{{use: careless, damage: {damage}}}, toy-pruner]")
    assert not run(text, registry, tmp_path / "mixed").not_ok
    pd.testing.assert_frame_equal(
        rows(tmp_path / "mixed", pruner="toy-pruner"), rows(tmp_path / "clean", pruner="toy-pruner")
    )
    (said,) = notes(tmp_path / "mixed")
    assert all(part.startswith("pruner 'careless") for part in said.split("; "))
    assert said.count(DAMAGE[damage][1]) >= 1
    assert notes(tmp_path / "clean") == []


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("of", ["model", "dense"])
def test_a_careless_task_moves_nobody_elses_numbers(damage: str, of: str, registry: Registry, tmp_path: Path) -> None:
    run(CLEAN, registry, tmp_path / "clean")
    task = f"  - {{use: careless-task, data: {DATA}, damage: {damage}, of: {of}}}\n"
    not_ok = run(CLEAN.replace("tasks:\n", f"tasks:\n{task}"), registry, tmp_path / "mixed").not_ok
    # without a device to compute on, its own values are lost
    assert {record.task.partition("-")[0] for record in not_ok} == ({"careless"} if damage == "device" else set())
    pd.testing.assert_frame_equal(rows(tmp_path / "mixed", task="toy-task"), rows(tmp_path / "clean"))
    said = notes(tmp_path / "mixed")
    assert all(text.startswith("task 'careless-task") for text in said)
    assert sum(DAMAGE[damage][1] in text for text in said) == 1


@pytest.mark.parametrize(("of", "named"), [("labels", True), ("images", True), ("logits", False)])
def test_data_and_shared_rows_are_not_the_borrowers(of: str, named: bool, registry: Registry, tmp_path: Path) -> None:
    run(CLEAN, registry, tmp_path / "clean")
    tasks = f"tasks:\n  - {{use: careless-task, data: {DATA}, of: {of}}}\n"
    assert not run(CLEAN.replace("tasks:\n", tasks), registry, tmp_path / "mixed").not_ok
    pd.testing.assert_frame_equal(rows(tmp_path / "mixed", task="toy-task"), rows(tmp_path / "clean"))
    assert ["data set" in text for text in notes(tmp_path / "mixed")] == [True] * named


def test_equal_is_equal_in_every_bit() -> None:
    nan = torch.tensor([float("nan"), 0.0])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(nan, nan.double())
    assert same_bits(torch.tensor([True, False]), torch.tensor([True, False]))
    assert same_bits(torch.tensor([1j]), torch.tensor([1j]))
    assert same_bits(torch.zeros(2, 3).T, torch.zeros(3, 2))


def test_a_network_used_as_it_should_be_has_not_changed() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 2)).eval()
    lent = copy.deepcopy(network)
    with torch.no_grad():
        lent(torch.randn(2, 1, 6, 6))
    assert changes(network, lent) == []
    lent.train()(torch.randn(2, 1, 6, 6))
    lent.eval()
    assert changes(network, lent) == ["buffers changed, the first '1.running_mean'"]


def test_what_the_process_shares_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, threads = Path.cwd(), torch.get_num_threads()
    before = Surroundings()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(threads + 1)
    monkeypatch.chdir(tmp_path)
    assert len(before.collect()) == 3
    assert (torch.get_default_dtype(), torch.get_num_threads(), Path.cwd()) == (torch.float32, threads, here)
    assert before.collect() == []
