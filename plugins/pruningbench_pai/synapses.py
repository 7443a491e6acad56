"""The synaptic flow of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pruningbench_pai.functional import batch_norms, double_state, gradients, run
from pruningbench_pai.interception import Linear


def positive_state(network: nn.Module, norm: Literal["bn-linear", "abs-all"]) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, as absolute values in float64.

    ``bn-linear`` also sets the running means of batch norms, their shifts and all biases to zero.
    """
    state = {name: t.abs() if t.is_floating_point() else t for name, t in double_state(network).items()}
    if norm == "bn-linear":
        silent = {f"{prefix}running_mean" for prefix in batch_norms(network)}
        for name, tensor in state.items():
            if name in silent or name.rpartition(".")[2] in ("bias", "in_proj_bias"):
                tensor.zero_()
    return state


def flow_scores(
    network: nn.Module, state: Mapping[str, Tensor], masks: Mapping[str, Tensor], shape: Sequence[int]
) -> dict[str, Tensor]:
    """Return ``|w dR/dw|`` in float64 for each masked parameter, R = sum of the outputs on an input of ones.

    Args:
        network: in eval mode.
        state: the result of `positive_state`.
        masks: parameter name -> bool tensor, True = kept.
        shape: shape of one input, without the batch dimension.
    """
    weights = {name: (state[name] * mask.to(state[name].device)).requires_grad_() for name, mask in masks.items()}
    device = next(iter(weights.values())).device
    ones = torch.ones((1, *shape), dtype=torch.float64, device=device)
    with Linear("synflow"):
        flow = run(network, {**state, **weights}, ones, "synflow").sum()
    return {name: (weights[name] * g).detach().abs() for name, g in gradients(flow, weights).items()}
