"""Parameters, operations and latency of a network: measured, never derived from masks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruningbench.pruning.masks import Masks
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
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            with FlopCounterMode(display=False) as counter:
                network(example_inputs[:1])
            times = [_seconds(network, example_inputs) for _ in range(runs + 3)][3:]
    finally:
        for module, training in modes:
            module.training = training
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Size(parameters, counter.get_total_flops(), 1000 * median(times), len(example_inputs))


def compare_size(network: nn.Module, masks: Masks, example_inputs: Tensor, *, runs: int = 20) -> SizeChange:
    """Measure a network unchanged, and with the channels that the masks leave empty physically removed.

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
    return SizeChange(
        measure_size(network, example_inputs, runs=runs), measure_size(smaller, example_inputs, runs=runs)
    )


def _seconds(network: nn.Module, inputs: Tensor) -> float:
    if inputs.device.type == "cuda":
        torch.cuda.synchronize(inputs.device)
    start = time.perf_counter()
    network(inputs)
    if inputs.device.type == "cuda":
        torch.cuda.synchronize(inputs.device)
    return time.perf_counter() - start
