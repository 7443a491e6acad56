"""Copies of networks are those of `copy.deepcopy`, for any network."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import pytest
import timm
import torch
from kit.runs import run
from kit.toysuite import TOY_SUITE
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pruningbench.base.copying import copied
from pruningbench.base.identity import tensors_digest
from pruningbench.base.randomness import isolated_randomness
from pruningbench.harness.lending import Parts, changes, same_bits
from pruningbench.plugins import Registry


class Odd(nn.Module):
    """Shares a weight, refers to its parent and to modules in a list, and has settings, hooks and a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.third = self.first
        self.others = [self.first, nn.Conv2d(1, 1, 1)]
        self.settings = {"a": [1, (2, self.second)], 3: OrderedDict(b=torch.ones(2))}
        self.view = self.first.weight.detach()[0]
        self.register_buffer("kept", torch.arange(3.0))
        self.register_buffer("passing", torch.arange(2.0), persistent=False)
        self.register_parameter("absent", None)
        self.function: Callable[[Tensor], Tensor] = torch.relu
        object.__setattr__(self.second, "parent", self)
        self.first.register_forward_hook(lambda *_: None)
        self.first.weight.grad = torch.ones(4, 4)
        self.first.weight.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x))) + self.kept.sum()


class Own(nn.Linear):
    """Is copied in a way of its own."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Own:
        twin = Own(self.in_features, self.out_features)
        twin.load_state_dict(self.state_dict())
        twin.made = True
        memo[id(self)] = twin
        return twin


class Stateful(nn.Linear):
    """Has a state of its own."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "asked": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "set": True})


def timms(name: str) -> nn.Module:
    with isolated_randomness(0):
        return timm.create_model(name, img_size=64) if "vit" in name or "swin" in name else timm.create_model(name)


MADE: dict[str, Callable[[], nn.Module]] = {
    "odd": Odd,
    "own": lambda: nn.Sequential(Own(2, 2), nn.ReLU()),
    "stateful": lambda: nn.Sequential(Stateful(2, 2)),
    "parametrized": lambda: nn.Sequential(weight_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3)),
    "recurrent": lambda: nn.Sequential(nn.LSTM(3, 3), nn.MultiheadAttention(4, 2)),
    "resnet": lambda: timms("resnet10t"),
    "vit": lambda: timms("vit_tiny_patch16_224"),
    "swin": lambda: timms("swin_tiny_patch4_window7_224"),
}


def shape(value: Any, seen: dict[int, int]) -> Any:
    """Describe an object down to its tensors, with the number of each object that occurs before it again."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return value.__qualname__
    if id(value) in seen:
        return f"#{seen[id(value)]}"
    seen[id(value)] = len(seen)
    if isinstance(value, Tensor):
        grad = None if value.grad is None else tensors_digest({"": value.grad})
        content = tensors_digest({"": value.detach()})
        return (type(value), value.dtype, value.stride(), value.requires_grad, content, grad)
    if isinstance(value, (dict, OrderedDict)):
        return (type(value), [(shape(k, seen), shape(v, seen)) for k, v in value.items()])
    if isinstance(value, (list, tuple, set, frozenset)):
        return (type(value), [shape(item, seen) for item in value])
    return (type(value), shape(vars(value), seen)) if isinstance(value, nn.Module) else type(value)


@pytest.mark.parametrize("name", MADE)
def test_a_copy_is_that_of_deepcopy(name: str) -> None:
    network = MADE[name]()
    before = repr(shape(network, {}))
    twin, peer = copied(network), copy.deepcopy(network)
    assert repr(shape(twin, {})) == repr(shape(peer, {}))
    assert repr(shape(network, {})) == before
    assert changes(network, twin) == changes(network, peer)
    theirs = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            assert tensor.data_ptr() not in theirs or not tensor.numel()
            tensor.zero_()
    assert repr(shape(network, {})) == before


def test_what_is_shared_is_shared_in_the_copy() -> None:
    twin: Any = copied(Odd())
    assert twin.first.weight is twin.second.weight and twin.third is twin.first is twin.others[0]
    assert twin.second.parent is twin and twin.settings["a"][1][1] is twin.second
    twin.train()
    assert twin.first.training


@pytest.mark.parametrize("name", MADE)
def test_parts_are_those_of_torch(name: str) -> None:
    network = MADE[name]()
    parts = Parts(network)
    for found, peer in (
        (parts.modules, network.named_modules()),
        (parts.parameters, network.named_parameters()),
        (parts.buffers, network.named_buffers()),
    ):
        assert [(n, id(v)) for n, v in found.items()] == [(n, id(v)) for n, v in peer]  # type: ignore[attr-defined]
    assert all(
        same_bits(one, other) for one, other in zip(network.parameters(), parts.parameters.values(), strict=True)
    )


def test_devices_that_are_absent_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch keeps a stack trace for each seed of a device that is not in use: a millisecond, several times a cell."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return
    with isolated_randomness("x") as seed:
        torch.manual_seed(seed)
        expected = torch.rand(3)

    def refused(*_: object) -> list[str]:
        raise AssertionError

    monkeypatch.setattr("torch.cuda.traceback.format_stack", refused)
    with isolated_randomness("x"):
        assert torch.equal(expected, torch.rand(3))


def test_a_cell_takes_two_copies_of_its_network(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is pruned and measured, one is lent to its tasks; the dense network is copied for all cells of a model."""
    made: list[int] = []

    def counting(network: nn.Module) -> nn.Module:
        made.append(1)
        return copied(network)

    monkeypatch.setattr("pruningbench.contract.vision.copied", counting)
    text = TOY_SUITE.replace("[none, {use: finetune, epochs: 1}]", "[none]")
    summary = run(text, toy_registry, tmp_path / "run")
    assert summary.ok and summary.cells > 3
    assert 2 * summary.cells <= len(made) <= 2 * summary.cells + 3
