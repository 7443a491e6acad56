"""Pruned networks that needed training: kept in the cache, which evicts the least recently used first."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pruningbench.contract import MovingPruner, Pruner, Recipe, VisionModel
from pruningbench.errors import PluginError
from pruningbench.pruning.masks import Masks
from pruningbench.store.cache import Cache
from pruningbench.suite.cells import Cell

ROOM = "networks"
PROVENANCE = "/provenance"
"""Name of the masks' provenance beside them in the cache; no parameter can have this name."""


def is_worth_keeping(cell: Cell) -> bool:
    """Whether the cell's network is trained or its weights are updated, so that it is worth keeping."""
    recipe, pruner = cell.recipe.component, cell.pruner.component if cell.pruner else None
    trains = isinstance(recipe, Recipe) and recipe.trains
    return trains or (isinstance(pruner, Pruner) and (pruner.updates_weights or isinstance(pruner, MovingPruner)))


def kept_network(
    cache: Cache,
    identity: Any,
    copy: Callable[[], VisionModel],
    make: Callable[[VisionModel], Masks],
    report: Callable[[str], None],
) -> tuple[VisionModel, Masks]:
    """Return a cell's pruned network and its masks from the cache, or make and store them.

    Args:
        cache: where networks are stored.
        identity: everything that determines the network.
        copy: returns a copy of the dense model.
        make: prunes and trains a copy in place, and returns its masks.
        report: receives a note if the stored network cannot be used.
    """
    computed: list[tuple[VisionModel, Masks]] = []

    def compute() -> dict[str, Tensor]:
        model = copy()
        masks = make(model)
        computed.append((model, masks))
        weights = {f"weights/{name}": tensor for name, tensor in model.network.state_dict().items()}
        return {**weights, **{f"masks/{name}": mask for name, mask in masks.items()}, PROVENANCE: as_tensor(masks)}

    stored = cache.tensors(ROOM, identity, compute)
    if not computed:
        try:
            return _restored(stored, copy())
        except (RuntimeError, ValueError, KeyError) as error:  # its layout differs from the network's current one
            report(f"the network in the cache does not fit and is made again ({error})")
            cache.forget(ROOM, identity)
            cache.tensors(ROOM, identity, compute)
    return computed[0]


def _restored(stored: dict[str, Tensor], model: VisionModel) -> tuple[VisionModel, Masks]:
    weights = {name.removeprefix("weights/"): t for name, t in stored.items() if name.startswith("weights/")}
    model.network.load_state_dict(weights)
    model.network.eval()
    masks = {name.removeprefix("masks/"): t for name, t in stored.items() if name.startswith("masks/")}
    order = dict(model.network.named_parameters())
    provenance = json.loads(bytes(stored[PROVENANCE].tolist()))
    return model, Masks({name: masks[name] for name in order if name in masks}, provenance)


def as_tensor(masks: Masks) -> Tensor:
    """Return the masks' provenance as JSON bytes in a tensor, because the cache stores only tensors.

    Raises:
        PluginError: if the provenance cannot be written as JSON.
    """
    try:
        return torch.tensor(list(json.dumps(dict(masks.provenance)).encode()), dtype=torch.uint8)
    except (TypeError, ValueError) as error:
        raise PluginError(f"the masks' provenance cannot be stored ({error})") from error
