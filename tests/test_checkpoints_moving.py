"""Trainings whose masks move: interrupted ones continue with the same weights and masks, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from kit.training import quick, toy_model, toy_samples
from torch import Tensor

from pruningbench.contract import Motion, PruningContext, VisionModel, tensors_digest
from pruningbench.plugins import load_registry
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind
from pruningbench.training import checkpoints
from pruningbench.training.checkpoints import ROOM, Checkpoints
from pruningbench.training.fit import fit, number_of_steps

PRUNERS: list[dict[str, Any]] = [
    {"use": "gradual", "interval": 2}, {"use": "gradual", "interval": 3, "initial": 0.2, "allocation": "erk"},
    {"use": "movement"}, {"use": "movement", "interval": 4, "allocation": "global"},
    {"use": "rigl", "interval": 2}, {"use": "rigl", "interval": 3, "start": "random"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _store_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)


class KilledError(Exception):
    pass


def motion_of(pruner: dict[str, Any], model: VisionModel, steps: int) -> Motion:
    component: Any = bind(load_registry(), "pruner", pruner).component
    parameters = prunable_parameters(model.network)
    motion: Motion = component.motion(PruningContext(model.network, parameters), 0.7, steps)
    return motion


def kept() -> Checkpoints:
    return Checkpoints(Cache(), {"training": 1})


def train(
    pruner: dict[str, Any], into: Checkpoints | None, *, stop: int = 0, wrap: type[Motion] | None = None, **fields: Any
) -> tuple[str, str, list[float], list[str]]:
    """Train; raise before step `stop`. Return the digests of weights and masks, the losses, and what was said."""
    model, samples = toy_model(), toy_samples()
    how = quick(**{"epochs": 3, "batch_size": 8, "checkpoint_minutes": 1e-9, **fields})
    motion = motion_of(pruner, model, number_of_steps(samples, how))
    if wrap is not None:
        motion = wrap(motion)  # type: ignore[call-arg]
    before, said = motion.before_step, list[str]()

    def stopping(step: int) -> bool:
        if stop and step == stop:
            raise KilledError
        return before(step)

    motion.before_step = stopping  # type: ignore[method-assign]
    losses = fit(model, samples, how, seed=3, motion=motion, checkpoints=into, report=said.append)
    return tensors_digest(dict(model.network.state_dict())), motion.masks.digest, losses, said


@pytest.mark.parametrize("pruner", PRUNERS, ids=str)
@pytest.mark.parametrize(
    "fields", [{}, {"optimizer": "adamw", "lr": 0.003, "ema": 0.9, "mixup": 0.3}], ids=["", "more"]
)
def test_an_interrupted_training_ends_with_the_same_bits(pruner: dict[str, Any], fields: dict[str, Any]) -> None:
    *whole, _ = train(pruner, None, **fields)
    for stop in (4, 15, 17, 27):  # in each epoch of twelve steps, twice in the second
        with pytest.raises(KilledError):
            train(pruner, kept(), stop=stop, **fields)
        torch.manual_seed(stop)
    *again, said = train(pruner, kept(), **fields)
    assert again == whole
    assert said[0] == "epoch 2/3 and 3 steps of the next were done before"
    assert len(list(Cache().folder.glob(f"{ROOM}/*/*"))) == 1


@pytest.mark.parametrize("pruner", PRUNERS[::2], ids=str)
def test_between_epochs_too(pruner: dict[str, Any]) -> None:
    *whole, _ = train(pruner, None)
    with pytest.raises(KilledError):
        train(pruner, kept(), stop=26, checkpoint_minutes=60.0)
    *again, said = train(pruner, kept(), checkpoint_minutes=60.0)
    assert again == whole and said[0] == "epoch 2/3 was done before"


class Silent(Motion):
    """A motion of a plugin that gives no state."""

    def __init__(self, inner: Motion) -> None:
        self.inner = inner

    @property
    def masks(self) -> Masks:  # type: ignore[override]
        return self.inner.masks

    def before_step(self, step: int) -> bool:
        return self.inner.before_step(step)

    def after_step(self, step: int) -> bool:
        return self.inner.after_step(step)


class Forgetful(Silent):
    """A motion that gives a state and cannot restore it."""

    def state(self) -> Mapping[str, Tensor] | None:
        return {"of": torch.zeros(2)}


def test_a_motion_without_a_state_begins_again() -> None:
    *whole, _ = train(PRUNERS[0], None)
    with pytest.raises(KilledError):
        train(PRUNERS[0], kept(), stop=9, wrap=Silent)
    assert not list(Cache().folder.glob(f"{ROOM}/*/*"))
    *again, said = train(PRUNERS[0], kept(), wrap=Silent)
    assert again == whole and said[0].startswith("epoch 1/3")


def test_a_motion_that_restores_nothing_says_so() -> None:
    with pytest.raises(KilledError):
        train(PRUNERS[0], kept(), stop=9, wrap=Forgetful)
    with pytest.raises(NotImplementedError, match="Forgetful returns a state and does not restore it"):
        train(PRUNERS[0], kept(), wrap=Forgetful)


@pytest.mark.parametrize("name", ["masks/1.weight", "motion/scores/1.weight", "motion/pruned/1.weight"])
@pytest.mark.parametrize("damage", ["another shape", "missing"])
def test_a_state_that_does_not_fit_is_ignored(name: str, damage: str) -> None:
    pruner = {"use": "movement"}
    *whole, _ = train(pruner, None)
    with pytest.raises(KilledError):
        train(pruner, kept(), stop=9)
    into = kept()
    state = into.latest()
    assert state is not None
    name = next(n for n in state if n.startswith("more/" + name.rpartition("/")[0]))
    changed = {n: t for n, t in state.items() if n != name}
    if damage == "another shape":
        changed[name] = state[name][..., None].clone()
    into.keep(changed)
    *again, said = train(pruner, kept())
    assert again == whole
    assert said[0] == "a stored state is of another network and is ignored: the training begins again"
