"""How a network computes while it trains: memory format, frozen weights, and which norms learn statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruningbench.contract import VisionModel
from pruningbench.training.errors import TrainingError


@contextmanager
def memory_format(network: nn.Module, *, channels_last: bool) -> Iterator[None]:
    """Keep the network's weights in the memory format of channels last inside the block, if asked."""
    if not channels_last:
        yield
        return
    network.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        network.to(memory_format=torch.contiguous_format)


@contextmanager
def frozen(model: VisionModel, *, freeze_head: bool) -> Iterator[None]:
    """Exclude the head's parameters from training inside the block, if asked.

    Raises:
        TrainingError: if the model does not say which they are.
    """
    parameters = dict(model.network.named_parameters())
    if freeze_head and not model.head:
        raise TrainingError("freeze_head: this model does not say which parameters are its head")
    chosen = [parameters[name] for name in model.head if parameters[name].requires_grad] if freeze_head else []
    for parameter in chosen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad_(True)


def train_mode(network: nn.Module, *, freeze_norm: bool) -> None:
    """Set a network to training mode; with `freeze_norm`, batch norms keep their statistics."""
    network.train()
    if freeze_norm:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
