"""Leaves a network as it was found, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserved(network: nn.Module) -> Iterator[None]:
    """Restore weights, buffers, gradients, requires_grad and train/eval flags at the end of the block.

    Weights and buffers are copied only where they were changed in place, so a block that only reads
    costs one copy of the state and nothing more.
    """
    modes = [(module, module.training) for module in network.modules()]
    tensors = [*network.parameters(), *network.buffers()]
    kept = [(tensor, tensor.detach().clone(), tensor._version) for tensor in tensors]
    grads = [(p, p.requires_grad, p.grad) for p in network.parameters()]
    for parameter, _, _ in grads:
        parameter.grad = None  # accumulating into the caller's own gradient could not be undone
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, copy, version in kept:
                if tensor._version != version:
                    tensor.copy_(copy)
        for parameter, requires_grad, grad in grads:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for module, training in modes:
            module.training = training
