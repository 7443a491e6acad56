"""Trainings compiled by torch.compile: equal values, nothing left on the network, and one line if it cannot be compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit.parallel import Drawing, furthest, masks_of, net, state
from kit.training import quick, toy_model, toy_samples
from torch import Tensor, nn

from pruningbench.base.identity import tensors_digest
from pruningbench.store.cache import Cache
from pruningbench.training import checkpoints, compiling
from pruningbench.training.checkpoints import Checkpoints
from pruningbench.training.errors import TrainingError
from pruningbench.training.fit import fit

calls: list[int] = []
"""One for each time that a compiled graph was run."""


def counting(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
    """Backend of torch.compile that runs the graph as it is and counts."""

    def run(*args: Any) -> Any:
        calls.append(1)
        return graph.forward(*args)

    return run


def train(model: Any, **fields: Any) -> tuple[dict[str, Tensor], list[float]]:
    losses = fit(model, toy_samples(37), quick(**fields), seed=3, masks=masks_of(model))
    return state(model), losses


@pytest.mark.parametrize(
    "fields",
    [
        {"ema": 0.8, "mixup": 0.5, "accumulate": 2, "clip_norm": 1.0},
        {"optimizer": "adamw", "lr": 0.003, "channels_last": True, "freeze_head": True},
    ],
    ids=["averaged", "channels last"],
)
def test_a_compiled_training_takes_the_same_steps(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    usual, losses = train(net(), **fields)
    model = net()
    compiled, their = train(model, compile=True, **fields)
    assert their == pytest.approx(losses, rel=1e-5)
    for name, value in usual.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-5, atol=1e-7)
    assert model.network._compiled_call_impl is None


def test_the_network_is_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """37 samples in batches of 16: two sizes, three steps an epoch, of which each runs the compiled graph."""
    monkeypatch.setattr(compiling, "BACKEND", counting)
    calls.clear()
    model = toy_model()
    fit(model, toy_samples(37), quick(epochs=2, compile=True), seed=0)
    assert len(calls) == 2 * 3
    model.logits(torch.zeros(2, 1, 6, 6))
    fit(toy_model(), toy_samples(37), quick(epochs=2), seed=0)
    assert len(calls) == 2 * 3, "after the training, the network is not compiled any more"


@pytest.mark.slow
def test_several_processes_compile_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    usual, _ = train(net(), epochs=1)
    compiled, _ = train(net(), epochs=1, compile=True, processes=2)
    assert furthest(usual, compiled) < 1e-6


class KilledError(Exception):
    pass


def test_an_interrupted_compiled_training_ends_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It continues with the short batch at the end of the epoch: what is compiled first must not matter."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    how = quick(epochs=2, compile=True, checkpoint_minutes=1e-9)

    def stopping(images: Tensor, generator: torch.Generator) -> Tensor:
        if len(images) == 5:
            raise KilledError
        return images

    def same(images: Tensor, generator: torch.Generator) -> Tensor:
        return images

    digests = []
    for kept in (None, Checkpoints(Cache(), {"training": 1})):
        if kept is not None:
            with pytest.raises(KilledError):
                fit(net("batch", Drawing()), toy_samples(37), how, seed=3, augment=stopping, checkpoints=kept)
        model, said = net("batch", Drawing()), list[str]()
        fit(model, toy_samples(37), how, seed=3, augment=same, checkpoints=kept, report=said.append)
        digests.append(tensors_digest(state(model)))
    assert said[0] == "epoch 0/2 and 2 steps of the next were done before"
    assert digests[0] == digests[1]


def test_many_networks_are_all_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch gives up after a number of networks; then the bits of a row would depend on the rows before it."""
    monkeypatch.setattr(compiling, "BACKEND", counting)
    for classes in range(2, 13):
        model = toy_model()
        model.network.add_module("5", nn.Linear(144, classes))
        calls.clear()
        fit(model, toy_samples(16), quick(epochs=1, compile=True), seed=0)
        assert len(calls) == 1


def broken(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
    raise RuntimeError("no C++ compiler here\nand more lines")


def test_what_cannot_be_compiled_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", broken)
    model = net()
    with pytest.raises(TrainingError) as caught:
        train(model, compile=True)
    text = str(caught.value)
    assert text.startswith("compile: torch cannot compile Net (") and "no C++ compiler here" in text
    assert text.endswith("or set compile: false") and "\n" not in text
    assert model.network._compiled_call_impl is None
