"""The estimate of the path kernel from which PX computes its scores."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from pruningbench.contract import PruningContext, UsageError
from pruningbench_pai.functional import batch_norms, double_state, gradients, run
from pruningbench_pai.interception import Gated, Gates, Linear, NoiseNorm

Variant = Literal["path", "code", "code-train"]


def path_scores(context: PruningContext, masks: Mapping[str, Tensor], variant: Variant) -> dict[str, Tensor]:
    """Return ``w^2 |dR/dw^2|`` in float64 for each masked parameter, R = sum of z1 z2 over the data.

    With ``code-train`` z1 and z2 normalise by the statistics of the current batch, so scores depend on how the
    data are batched. In all variants the gates are those of the network in eval mode.

    Raises:
        UsageError: if there are no batches.
    """
    network = context.network
    state = double_state(network)
    masks = {name: mask.to(state[name].device) for name, mask in masks.items()}
    linear = {name for name in masks if state[name].ndim == 2} if variant != "path" else set()
    state.update({name: state[name] * masks[name] for name in masks})
    squares = {
        name: (state[name].clone() if name in linear else state[name].square()).requires_grad_() for name in masks
    }
    ones = {name: state[name] if name in linear else masks[name].to(torch.float64) for name in masks}
    unit, scaled = (_norms(network, state, squared=s) if variant == "path" else {} for s in (False, True))
    total = {name: torch.zeros_like(state[name]) for name in masks}
    device, count = next(iter(squares.values())).device, 0
    for images, _labels in context.batches() if context.batches is not None else ():
        x = images.to(device=device, dtype=torch.float64)
        with torch.no_grad():
            with Gates("px") as gates:
                run(network, state, x, "px")
            with _batch_statistics(variant), Gated("px", gates.open):
                z1 = run(network, {**state, **unit, **ones}, x.square(), "px")
        # two images, since a batch of a single 1 x 1 map has no statistics
        with _batch_statistics(variant), Linear("px"):
            z2 = run(network, {**state, **scaled, **squares}, x.new_ones(2, *x.shape[1:]), "px")
        for name, gradient in gradients((z1.sum(0) * z2[0]).sum(), squares).items():
            total[name] += gradient
        count += len(images)
    if not count:
        raise UsageError("pruner 'px' needs data: there are no batches")
    return {name: (state[name].square() * gradient).detach().abs() for name, gradient in total.items()}


def _batch_statistics(variant: Variant) -> AbstractContextManager[object]:
    return NoiseNorm("px") if variant == "code-train" else nullcontext()


def _norms(network: nn.Module, state: Mapping[str, Tensor], *, squared: bool) -> dict[str, Tensor]:
    """Return tensors that make batch norms the identity, or scalings by scale^2 / variance, and biases zero."""
    changed = {
        name: torch.zeros_like(tensor)
        for name, tensor in state.items()
        if name.rpartition(".")[2] in ("bias", "in_proj_bias")
    }
    for prefix, module in batch_norms(network).items():
        eps = float(getattr(module, "eps", 0.0))
        deviation = (state[f"{prefix}running_var"] + eps).sqrt()
        changed[f"{prefix}running_mean"] = torch.zeros_like(deviation)
        if f"{prefix}weight" in state:
            scale = state[f"{prefix}weight"]
            changed[f"{prefix}weight"] = scale.square() / deviation if squared else deviation
        else:  # there is no scale to set: set the variance so that the division has the same effect
            changed[f"{prefix}running_var"] = (deviation**4 if squared else torch.ones_like(deviation)) - eps
    return changed
