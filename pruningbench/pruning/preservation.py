"""Restores a network to its original state, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def preserved(network: nn.Module) -> Iterator[None]:
    """Restore weights, buffers, gradients, requires_grad and train/eval flags at the end of the block.

    Weights are copied back only where they were changed in place, so a block that only reads costs one copy
    of the state and little more. Buffers are compared by value, because batch norm changes its statistics
    unnoticed. A forward pass may also replace a buffer by another tensor (``self.mean = ...``), so each
    module gets its own parameters and buffers back.
    """
    members: list[tuple[Any, dict[str, Any]]] = [
        (tensors, dict(tensors)) for module in network.modules() for tensors in (module._parameters, module._buffers)
    ]
    modes = [(module, module.training) for module in network.modules()]
    saved = [(p, p.detach().clone(), p._version) for p in network.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in network.buffers()]
    grads = [(p, p.requires_grad, p.grad) for p in network.parameters()]
    for parameter, _, _ in grads:
        parameter.grad = None  # accumulating into the caller's own gradient could not be undone
    try:
        yield
    finally:
        for tensors, before in members:
            if list(tensors) != list(before) or any(tensors[name] is not tensor for name, tensor in before.items()):
                tensors.clear()
                tensors.update(before)
        with torch.no_grad():
            for tensor, copy, version in saved:
                if tensor._version != version:
                    tensor.copy_(copy)
            for buffer, copy in buffers:
                if not torch.equal(buffer, copy):
                    buffer.copy_(copy)
        for parameter, requires_grad, grad in grads:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for module, training in modes:
            module.training = training
