"""A recipe's job without the harness, and its trainings made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.training import toy_model, toy_samples
from pruningbench.base.identity import derive_seed
from pruningbench.contract import Context, PruningContext, RecipeJob, VisionModel
from pruningbench.harness.thresholds import prune_within
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.store.cache import Cache
from pruningbench.training.fit import fit
from pruningbench.training.settings import FitSettings


class Job:
    """A recipe's job without the harness: magnitude pruning, and a store that counts."""

    def __init__(self, sparsity: float, store: dict[str, dict[str, Tensor]] | None = None) -> None:
        self.model = toy_model()
        self.store = store if store is not None else {}
        self.made: list[Any] = []
        self.pruned: list[tuple[float, Masks | None]] = []
        self.notes: list[str] = []
        context = Context(
            torch.device("cpu"), 7, Cache(Path("/nonexistent")), lambda _: toy_samples(), report=self.notes.append
        )
        self.job = RecipeJob(self.model, sparsity, self.prune, toy_samples(), context, self.shared)

    def prune(self, model: VisionModel, sparsity: float, within: Masks | None = None) -> Masks:
        from pruningbench_magnitude.pruners import Magnitude

        context = PruningContext(model.network, prunable_parameters(model.network))
        masks = (
            Magnitude().prune(context, sparsity)
            if within is None
            else prune_within(Magnitude(), context, sparsity, within)
        )
        masks.apply(model.network)
        self.pruned.append((sparsity, within))
        return masks

    def shared(self, key: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if str(key) not in self.store:
            self.store[str(key)] = {name: tensor.clone() for name, tensor in make().items()}
            self.made.append(key)
        return self.store[str(key)]


def state(model: VisionModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


QUICK: dict[str, Any] = {"epochs": 2, "lr": 0.05, "batch_size": 16}


def by_hand(model: VisionModel, masks: Masks | None, stage: str, **how: Any) -> None:
    settings = FitSettings(2, "sgd", 0.05, batch_size=16)
    fit(model, toy_samples(), settings, seed=derive_seed(7, stage), masks=masks, **how)
