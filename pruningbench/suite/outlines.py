"""Turns a network without weights into the outline that cost estimates start from."""

from __future__ import annotations

import math

import torch
from torch import nn

from pruningbench.base.machine import device_memory
from pruningbench.contract.cost import FLOAT, Outline
from pruningbench.errors import MaskError, UsageError
from pruningbench.pruning.footprint import activation_bytes, input_shape, state_bytes
from pruningbench.pruning.scope import Scope, prunable_parameters


def outline(network: nn.Module, scope: Scope | None, *, device: torch.device) -> Outline | None:
    """Return the outline of a network, with or without weights; None if its head must stay but is not known.

    Its sparsity and its batch size are the defaults; pruners are told theirs.

    Raises:
        UsageError: if a pattern of the scope matches nothing, or nothing is left to prune.
    """
    if scope is not None and not scope.head and not callable(getattr(network, "get_classifier", None)):
        return None  # the loaded model may know it
    try:
        parameters = prunable_parameters(network, scope)
    except MaskError as error:
        raise UsageError(str(error)) from error
    shape = input_shape(network)
    activations = activation_bytes(network, shape) if shape else []
    return Outline(
        shapes={name: tuple(p.shape) for name, p in parameters.items()},
        state_bytes=state_bytes(network),
        activation_bytes=sum(activations),
        widest_bytes=max(activations, default=0),
        image_bytes=FLOAT * math.prod(shape) if shape else 0,
        device_memory=device_memory(device),
        on_cpu=device.type == "cpu",
    )
