"""Recalibration of batch norm: running statistics recomputed after weights have been pruned."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruningbench.errors import PruningBenchError


def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the running statistics of every batch norm by averages over `batches`, in place.

    Pruning changes the inputs of a batch norm, so its running mean and variance, measured on the dense
    network, no longer fit; raw and recalibrated networks rank pruners differently. Each layer's mean
    and unbiased variance are averaged over the batches with equal weights. Nothing else in the network
    changes: not its weights, its train/eval flags or the momentum of its norms.

    Args:
        network: any network; one without running statistics is left unchanged.
        batches: (B, C, H, W) inputs, at least one, each of two or more samples.

    Returns:
        Number of layers recalibrated.

    Raises:
        PruningBenchError: if there are layers to recalibrate but no batches; nothing is changed in that case.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return 0
    flags = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    samples_seen = 0
    try:
        network.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # the cumulative average
        with torch.no_grad():
            for images in batches:
                network(images)
                samples_seen += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in flags:
            module.training = training
        if not samples_seen:
            for norm, old in zip(norms, before, strict=True):
                for name, buffer in norm.named_buffers():
                    buffer.copy_(old[name])
    if not samples_seen:
        raise PruningBenchError("batch norm cannot be recalibrated: there are no batches")
    return len(norms)
