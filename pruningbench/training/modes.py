"""How a network computes while it trains: precision, memory format, and which norms learn statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def kernels(precision: str) -> Iterator[None]:
    """Allow or forbid TF32 on NVIDIA devices inside the block: ``tf32`` allows it, every other precision does not.

    Without this, torch forbids it for matrix products and allows it for convolutions.
    """
    backends: Any = torch.backends
    switches = (backends.cuda.matmul, backends.cudnn) if torch.cuda.is_available() else ()
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


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
