"""Norms that an architecture starts at zero: started at one in new weights, whichever model and however asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kit.runs import said
from kit.toysuite import TOY_SUITE
from safetensors.torch import save_file
from torch import nn

from pruningbench.contract import ComponentRef, Context, Model, NewWeights, Samples, VisionModel
from pruningbench.contract.component import BUILT_IN
from pruningbench.harness.thresholds import note_ties
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.ties import zero_norms
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind

NETWORK = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1)
        nn.init.zeros_(self.norm.weight)
    def reset_own(self):
        nn.init.zeros_(self.norm.weight)
    def forward(self, x):
        return x + self.norm(self.conv(x))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.flat, self.fc = Block(), nn.Flatten(), nn.Linear(36, 2)
    def forward(self, x):
        return self.fc(self.flat(self.block(x)))

def build():
    return Net()
"""
RESNET: dict[str, Any] = {"use": "timm", "name": "resnet10t", "args": {"num_classes": 4}}


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(NETWORK)
    return str(tmp_path / "mine.py")


def no_data(reference: ComponentRef) -> Samples:
    raise AssertionError(f"{reference} is not asked for")


def loaded(reference: ComponentRef) -> VisionModel:
    component = bind(load_registry(), "model", reference).component
    assert isinstance(component, Model)
    return component.load(Context(torch.device("cpu"), 0, Cache(), no_data))


def zeros(model: VisionModel) -> int:
    return len(zero_norms(model.network))


def own(file: str, **fields: Any) -> dict[str, Any]:
    return {"use": "python", "network": f"{file}:build", "mean": [0.5], "std": [0.5], "size": 6, "crop": 1.0,
            "classes": ["dark", "bright"], **fields}  # fmt: skip


def test_a_model_of_ones_own_starts_them_where_its_weights_are_random(file: str) -> None:
    assert zeros(loaded(own(file))) == 1
    plain, one = loaded(own(file)), loaded(own(file, norm_init="one"))
    assert zeros(one) == 0 and one.fingerprint != plain.fingerprint
    rest = {name: tensor for name, tensor in one.network.state_dict().items() if name != "block.norm.weight"}
    assert all(torch.equal(tensor, plain.network.state_dict()[name]) for name, tensor in rest.items())
    for model, expected in ((plain, 1), (one, 0)):
        model.reinitialise(3)
        assert zeros(model) == expected


@pytest.mark.parametrize("kind", ["python", "timm"])
def test_weights_of_a_checkpoint_stay_and_new_ones_follow_the_field(kind: str, file: str, tmp_path: Path) -> None:
    reference = own(file) if kind == "python" else {**RESNET, "pretrained": False}
    stored = loaded(reference)
    assert zeros(stored) > 0
    path = tmp_path / "weights.safetensors"
    save_file(stored.network.state_dict(), path)
    model = loaded({**reference, "checkpoint": str(path), "norm_init": "one"})
    assert model.network.state_dict().keys() == stored.network.state_dict().keys()
    assert all(torch.equal(t, stored.network.state_dict()[n]) for n, t in model.network.state_dict().items())
    model.reinitialise(0)
    assert zeros(model) == 0


def test_networks_of_timms_random_weights_start_them() -> None:
    assert zeros(loaded({**RESNET, "pretrained": False})) == 4
    assert zeros(loaded({**RESNET, "pretrained": False, "norm_init": "one"})) == 0


def test_every_model_with_an_architecture_of_its_own_has_the_field_and_its_key_stays() -> None:
    registry = load_registry()
    built_in = [e for e in registry if e.kind == "model" and e.plugin.distribution == BUILT_IN]
    without = {entry.name for entry in built_in if not issubclass(entry.load(), NewWeights)}
    assert without == {"ridge-headed"}  # its backbone has it
    for name in ("resnet", "swin", "digits-resnet", "efficientnet-lite0", "mocov2"):
        use = bind(registry, "model", name)
        assert "norm_init" not in use.identity()["fields"]
        assert bind(registry, "model", {"use": name, "norm_init": "one"}).identity() != use.identity()


def test_a_copy_of_a_model_keeps_how_its_norms_start(file: str) -> None:
    twin = loaded(own(file, norm_init="one")).clone()
    twin.reinitialise(1)
    assert zeros(twin) == 0


def undecided(remedy: str) -> str:
    norm = nn.BatchNorm2d(2)
    nn.init.zeros_(norm.weight)
    masks = Masks({"1.weight": torch.ones(2, dtype=torch.bool)}, {"ties": 0.5, "zeros": 0.9})
    return str(note_ties(masks, nn.Sequential(nn.Conv2d(1, 2, 1), norm), remedy=remedy).provenance["undecided"])


def test_the_core_gives_the_remedy_that_the_model_says_and_no_other() -> None:
    assert undecided("`alpha: 1`").endswith("the first '1': start them at one (`alpha: 1`)")
    assert undecided("").endswith("the first '1': start them at one")


def test_a_run_names_the_models_own_field(toy_registry: Registry, file: str, tmp_path: Path) -> None:
    """SNIP scores every weight before the norm as 0, because nothing passes it."""
    model = (
        f"{{use: python, network: '{file}:build', mean: [0.5], std: [0.5], size: 6, crop: 1.0, classes: [dark, bright]"
    )
    text = (
        TOY_SUITE.replace("[toy-net]", f"[{model}}}, {model}, norm_init: one}}]")
        .replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[{use: snip, allocation: uniform}]")
        .replace("[none, {use: finetune, epochs: 1}]", "[none]")
        .replace("[0, 0.5, 0.9]", "[0.5]")
    ) + "data: toy-data\n"
    said(text, toy_registry, tmp_path / "run")
    frame = load_results(tmp_path / "run", details=True)
    remarks = dict(zip(frame["model"], frame["remarks"], strict=True))
    plain = next(text for model, text in remarks.items() if "norm_init" not in model)
    assert "the first 'block.norm': start them at one (`norm_init: one`)" in plain
    assert [text for model, text in remarks.items() if "norm_init" in model] == [""]
