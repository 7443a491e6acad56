"""Parameters, operations and latency of a network: measured, never derived from masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from pruningbench.pruning.counting import count_macs
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.timing import measured_seconds
from pruningbench_structured.shrinking import shrink


@dataclass(frozen=True)
class Size:
    """The size and latency of a network.

    Attributes:
        parameters: number of parameters, zeros included.
        flops: floating-point operations of convolutions and matrix products for one sample; a multiply-add counts
            as two.
        latency_ms: median milliseconds of a forward pass of the measured batch.
        batch_size: samples in that batch.
    """

    parameters: int
    flops: int
    latency_ms: float
    batch_size: int


@dataclass(frozen=True)
class SizeChange:
    """A network before and after its channels were removed.

    Attributes:
        dense: the original network.
        smaller: the network without the channels that the masks leave empty.
    """

    dense: Size
    smaller: Size

    @property
    def speedup(self) -> float:
        """Measured speedup of the smaller network over the dense one."""
        return self.dense.latency_ms / self.smaller.latency_ms

    def __str__(self) -> str:
        a, b = self.dense, self.smaller
        return (
            f"parameters {a.parameters:,} -> {b.parameters:,}; FLOPs {a.flops:,} -> {b.flops:,}; "
            f"latency {a.latency_ms:.2f} -> {b.latency_ms:.2f} ms per batch of {a.batch_size}"
        )


def measure_size(network: nn.Module, example_inputs: Tensor, *, runs: int = 20) -> Size:
    """Count parameters and operations of a network, and time it in eval mode.

    Args:
        network: any module with one input; it is not modified.
        example_inputs: (B, ...) inputs on its device; B is the timed batch size.
        runs: timed forward passes, after three untimed ones; at least 1.
    """
    return _measured([network], example_inputs, runs)[0]


def compare_size(network: nn.Module, masks: Masks, example_inputs: Tensor, *, runs: int = 20) -> SizeChange:
    """Measure a network unchanged, and with the channels that the masks leave empty physically removed, in turns.

    Weights that are only masked count in full on both sides: masks alone make nothing smaller or faster.

    Args:
        network: dense or pruned; it is not modified.
        masks: masks from the pruner `structured` or `blocks`.
        example_inputs: (B, ...) inputs on its device.
        runs: timed forward passes of each network.

    Raises:
        PruningBenchError: as `shrink` does.
    """
    smaller = shrink(network, masks, example_inputs)
    return SizeChange(*_measured([network, smaller], example_inputs, runs))


def _measured(networks: Sequence[nn.Module], inputs: Tensor, runs: int) -> list[Size]:
    """Measure networks in eval mode, timed in turns, and set back their modes."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        with torch.no_grad():
            seconds = measured_seconds([partial(network, inputs) for network in networks], inputs.device, runs, 3)
            macs = [count_macs(network, partial(network, inputs[:1])).dense for network in networks]
    finally:
        for module, training in modes:
            module.training = training
    return [
        Size(sum(p.numel() for p in network.parameters()), 2 * operations, 1000 * median(taken.tolist()), len(inputs))
        for network, operations, taken in zip(networks, macs, seconds, strict=True)
    ]
