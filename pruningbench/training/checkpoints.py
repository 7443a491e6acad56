"""The state of an unfinished training, stored now and then: an interrupted training continues with the same bits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pruningbench.base.randomness import random_state, set_random_state
from pruningbench.base.versions import package_version
from pruningbench.contract import TensorCache

ROOM = "trainings"
PAUSE = 2.0
"""Seconds between two stored states."""
SHARE = 0.05
"""Largest share of the time that storing may take; states of large networks are stored less often."""
SLOTS = 2
"""Places for states: a new state is written beside the one before, which is removed afterwards."""
LAYOUT = 2
"""Version of a state's content."""
PLAIN = "plain"
"""Name of the JSON text, as bytes, of what is no tensor."""
State = dict[str, Tensor]


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: whole epochs done.
        step: steps of the next epoch done.
        losses: mean loss of each epoch done.
        total: sum of the losses of all samples in these steps.
        count: number of these samples.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    total: float = 0.0
    count: int = 0

    def done(self, epochs: int) -> str:
        """Say in words what was done of `epochs`."""
        if self.step:
            return f"epoch {self.epoch}/{epochs} and {self.step} steps of the next were done"
        return f"epoch {self.epoch}/{epochs} was done"


class Checkpoints:
    """Stores the latest state of one training in a cache until the training is finished.

    A state holds weights, buffers, the state of the optimizer and of all random generators, and the losses. With it,
    a training that was killed ends with the same bits as one that was not. A damaged file is ignored.

    Args:
        cache: where states are stored.
        identity: everything that determines the training, as plain JSON values by name.
    """

    def __init__(self, cache: TensorCache, identity: Mapping[str, Any]) -> None:
        self._cache, self._identity = cache, identity
        self._slot = 0
        self._stored = time.monotonic()
        self._next = self._stored + PAUSE

    def latest(self) -> State | None:
        """Return the most advanced state that is stored and whole, or None."""
        states = [(slot, self._cache.find(ROOM, self._key(slot))) for slot in range(SLOTS)]
        found = [(place_of(state), slot, state) for slot, state in states if state is not None and place_of(state)]
        if not found:
            return None
        _, slot, state = max(found, key=lambda one: one[0])
        self._slot = (slot + 1) % SLOTS
        return state

    def due(self, minutes: float = 0.0) -> bool:
        """Whether a state should be stored now.

        Args:
            minutes: time that must have passed since the last state. At the end of an epoch, whose state is
                smaller and simpler to continue from, none need pass but for what storing costs.
        """
        return time.monotonic() >= max(self._next, self._stored + 60 * minutes)

    def keep(self, state: State) -> None:
        """Store a state instead of the one before."""
        start = time.monotonic()
        self._cache.forget(ROOM, self._key(self._slot))
        self._cache.tensors(ROOM, self._key(self._slot), lambda: state)
        self._slot = (self._slot + 1) % SLOTS
        self._cache.forget(ROOM, self._key(self._slot))
        self._stored = time.monotonic()
        self._next = self._stored + max(PAUSE, (self._stored - start) / SHARE)

    def clear(self) -> None:
        """Remove the stored state, because the training's result is stored elsewhere."""
        for slot in range(SLOTS):
            self._cache.forget(ROOM, self._key(slot))

    def _key(self, slot: int) -> Any:
        made_by = {"layout": LAYOUT, "torch": torch.__version__, "timm": package_version("timm")}
        return {**self._identity, "slot": slot, **made_by}


def captured(
    progress: Progress,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    more: Mapping[str, Tensor] | None = None,
) -> State:
    """Return the state of a training; its tensors are those in use, not copies.

    Args:
        progress: how far it has come.
        network: the network in training.
        optimizer: its optimizer.
        more: further tensors to keep, by name; see `kept_with`.
    """
    state = {**prefixed("network/", network.state_dict()), **random_state(), **prefixed("more/", more or {})}
    scalars: list[Any] = []
    for place, key, value in _entries(optimizer):
        if isinstance(value, Tensor):
            state[f"optimizer/{place}/{key}"] = value
        else:
            scalars.append([place, key, value])
    counts: list[Any] = []
    for place, group in enumerate(optimizer.state_dict()["param_groups"]):
        for key, value in _counters(group):
            if isinstance(value, Tensor):
                state[f"group/{place}/{key}"] = value
            else:
                counts.append([place, key, value])
    text = json.dumps({**vars(progress), "scalars": scalars, "counts": counts})
    state[PLAIN] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    return state


def place_of(state: State) -> tuple[int, int]:
    """Return the whole epochs and the steps of the next that a state has done; (0, 0) if it is none of ours."""
    try:
        plain = _plain(state)
        return int(plain["epoch"]), int(plain["step"])
    except (KeyError, TypeError, ValueError):
        return 0, 0


def fits(state: State, network: nn.Module, more: Mapping[str, Tensor]) -> bool:
    """Whether a state belongs to a training of this network, with tensors of the same names and shapes in `more`."""
    own = {**prefixed("network/", network.state_dict()), **prefixed("more/", more)}
    return all(name in state and state[name].shape == tensor.shape for name, tensor in own.items())


def restore(state: State, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Bring a training to a stored state, in place; return how far it has come. The schedule is the caller's."""
    network.load_state_dict(without("network/", state))
    plain = _plain(state)
    entries = _numbered(without("optimizer/", state), plain.pop("scalars"))
    groups = _numbered(without("group/", state), plain.pop("counts"))
    now = optimizer.state_dict()["param_groups"]
    groups_then = [{**group, **groups.get(place, {})} for place, group in enumerate(now)]
    optimizer.load_state_dict({"state": entries, "param_groups": groups_then})
    set_random_state(state)
    return Progress(**plain)


def kept_with(state: State) -> State:
    """Return what was given as `more` to `captured`."""
    return without("more/", state)


def _numbered(tensors: State, numbers: Iterable[tuple[int, str, Any]]) -> dict[int, dict[str, Any]]:
    """Return tensors named ``PLACE/KEY``, and numbers, by place and key."""
    found: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        place, _, key = name.partition("/")
        found.setdefault(int(place), {})[key] = tensor
    for at, key, value in numbers:
        found.setdefault(at, {})[key] = value
    return found


def _plain(state: State) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(bytes(state[PLAIN].tolist()))
    return values


def _entries(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, str, Any]]:
    """Yield an optimizer's state as (parameter, name, tensor or number); what is None there is left out."""
    for place, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if value is not None:
                yield place, key, value


def _counters(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and whole numbers in a group of parameters, without its rates: some optimizers count steps."""
    for key, value in group.items():
        if type(value) is int or (isinstance(value, Tensor) and not key.endswith("lr")):
            yield key, value


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    """Return the tensors under names that begin with `prefix`."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def without(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    """Return the tensors whose names begin with `prefix`, under what follows it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
