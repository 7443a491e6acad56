"""The state of an unfinished training, stored after epochs: an interrupted training continues with the same bits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruningbench.base.randomness import random_state, set_random_state
from pruningbench.contract import TensorCache

ROOM = "trainings"
PAUSE = 2.0
"""Seconds between two stored states."""
SHARE = 0.05
"""Largest share of the time that storing may take; states of large networks are stored less often."""
State = dict[str, Tensor]
LOSSES = "losses"


class Checkpoints:
    """Stores the latest state of one training in a cache until the training is finished.

    A state holds weights, buffers, the state of the optimizer and of all random generators, and the losses. With it,
    a training that was killed ends with the same bits as one that was not.

    Args:
        cache: where states are stored.
        identity: everything that determines the training, as plain JSON values by name.
    """

    def __init__(self, cache: TensorCache, identity: Mapping[str, Any]) -> None:
        self._cache, self._identity = cache, identity
        self._epochs: set[int] = set()
        self._next = time.monotonic() + PAUSE

    def latest(self, epochs: int) -> tuple[int, State]:
        """Return the number of epochs done, at most `epochs`, and the state after them; (0, {}) if none is stored."""
        for epoch in range(epochs, 0, -1):
            state = self._cache.find(ROOM, self._key(epoch))
            if state is not None:
                self._epochs.add(epoch)
                return epoch, state
        return 0, {}

    def keep(self, epoch: int, network: nn.Module, optimizer: torch.optim.Optimizer, losses: list[float]) -> None:
        """Store the state after `epoch` epochs instead of the one before, if enough time has passed.

        Args:
            epoch: number of epochs done.
            network: the network in training.
            optimizer: its optimizer.
            losses: mean loss of each epoch.
        """
        start = time.monotonic()
        if start < self._next:
            return
        state = {**_prefixed("network/", network.state_dict()), **_of_optimizer(optimizer), **random_state()}
        state[LOSSES] = torch.tensor(losses, dtype=torch.float64)
        self._cache.tensors(ROOM, self._key(epoch), lambda: state)
        before, self._epochs = self._epochs, {epoch}
        self._forget(before - {epoch})
        now = time.monotonic()
        self._next = now + max(PAUSE, (now - start) / SHARE)

    def clear(self) -> None:
        """Remove the stored state, because the training's result is stored elsewhere."""
        self._forget(self._epochs)
        self._epochs = set()

    def _forget(self, epochs: set[int]) -> None:
        for epoch in epochs:
            self._cache.forget(ROOM, self._key(epoch))

    def _key(self, epoch: int) -> Any:
        return {**self._identity, "epoch": epoch, "torch": torch.__version__}


def restore(state: State, network: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    """Bring a training to a stored state, in place; return the losses so far. The schedule is the caller's."""
    network.load_state_dict(_without("network/", state))
    stored: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _without("optimizer/", state).items():
        place, _, key = name.partition("/")
        stored.setdefault(int(place), {})[key] = tensor
    optimizer.load_state_dict({"state": stored, "param_groups": optimizer.state_dict()["param_groups"]})
    set_random_state(state)
    return [float(loss) for loss in state[LOSSES]]


def _of_optimizer(optimizer: torch.optim.Optimizer) -> State:
    """Return the tensors of an optimizer's state; what is None there, such as an unused momentum, is left out."""
    return {
        f"optimizer/{place}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for place, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if value is not None
    }


def _prefixed(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _without(prefix: str, tensors: State) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
