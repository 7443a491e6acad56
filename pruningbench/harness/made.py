"""Checks of what a cell's recipe made: masks as requested, and a network that is the dense one with other weights."""

from __future__ import annotations

import json

import torch

from pruningbench.contract import Pruner, VisionModel
from pruningbench.errors import PluginError
from pruningbench.harness.lending import Blame, structural_changes, view_changes
from pruningbench.harness.session import check_names
from pruningbench.pruning.allocation import number_to_prune
from pruningbench.pruning.masks import Masks
from pruningbench.suite.cells import Cell


def check_masks(cell: Cell, masks: Masks, prunable: list[str]) -> None:
    """Make sure that a pruner did what was requested, without trusting its claims.

    Raises:
        PluginError: for masks of parameters that the scope does not allow, a number of pruned weights other
            than ``round(sparsity * prunable)`` from a pruner that claims to be exact, or provenance that
            cannot be stored.
    """
    pruner = cell.pruner.component if cell.pruner else None
    if not isinstance(masks, Masks):
        raise PluginError(f"recipe {cell.recipe.label!r} returned a {type(masks).__name__}, not Masks")
    check_names(cell.pruner_label, masks, prunable)
    pruned, asked = masks.total - masks.kept, number_to_prune(cell.sparsity, masks.total)
    if cell.pruner is None and pruned:
        raise PluginError(f"recipe {cell.recipe.label!r} pruned {pruned} weights of its dense reference")
    if isinstance(pruner, Pruner) and pruner.exact and pruned != asked:
        raise PluginError(
            f"pruner {cell.pruner_label!r} pruned {pruned} of {masks.total} weights, not {asked}, "
            f"at sparsity {cell.sparsity:g}"
        )
    try:
        json.dumps(dict(masks.provenance))
    except (TypeError, ValueError) as error:
        raise PluginError(f"pruner {cell.pruner_label!r}: the masks' provenance cannot be stored ({error})") from error


def check_zeros(cell: Cell, masks: Masks, network: torch.nn.Module) -> None:
    """Make sure that all weights that the masks prune are zero in the network that will be measured.

    Raises:
        PluginError: if some are not, as after training that does not keep the masks; otherwise the row would have the
            values of a network that is less sparse than the row says.
    """
    parameters = dict(network.named_parameters())
    alive = {name: int((parameters[name].detach()[~mask.to(parameters[name].device)] != 0).sum())
             for name, mask in masks.items()}  # fmt: skip
    total = sum(alive.values())
    if total:
        first = next(name for name, number in alive.items() if number)
        raise PluginError(
            f"recipe {cell.recipe.label!r} left {total} weights that pruner {cell.pruner_label!r} pruned, the first in "
            f"{first!r}, at other values than zero: a recipe must apply the masks again after training (Masks.apply)"
        )


def reduce_to_weights(cell: Cell, dense: VisionModel, model: VisionModel, blame: Blame) -> None:
    """Make sure that a pruned model differs from the dense one only in its weights, in place.

    Only weights are kept in the cache, in run folders and in the key. A hook or another `eps` would give the first
    run other values than all later ones.

    Raises:
        PluginError: if the weights do not fit into the dense network's modules.
    """
    for parameter in model.network.parameters():
        parameter.grad = None
    found = structural_changes(dense.network, model.network) + view_changes(dense, model)
    if not found and _layout(dense.network) == _layout(model.network):
        return
    by = f"recipe {cell.recipe.label!r}" + (f" with pruner {cell.pruner_label!r}" if cell.pruner else "")
    blame.add(by, found or ["dtypes of its tensors were changed"])
    fresh = dense.clone()
    try:
        fresh.network.load_state_dict(model.network.state_dict())
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise PluginError(f"{by} must leave a network with the dense one's modules and shapes: {reason}") from error
    vars(model).clear()
    vars(model).update(vars(fresh))


def _layout(network: torch.nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}
