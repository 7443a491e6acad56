"""How a network computes while it trains: memory format, and which norms learn statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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


def train_mode(network: nn.Module, *, freeze_norm: bool) -> None:
    """Set a network to training mode; with `freeze_norm`, batch norms keep their statistics."""
    network.train()
    if freeze_norm:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
