"""Metrics of what a network costs. Theoretical and measured ones never share a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import Metric, Outputs, ResourceUse

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.statistics import Floats


@dataclass(frozen=True)
class Counted(Metric):
    """Base of the counts: one exact number, without an interval; lower is better."""

    consumes = ResourceUse
    higher_is_better = False
    range = (0.0, float("inf"))


@dataclass(frozen=True)
class Parameters(Counted):
    """Parameters of the network, zeros included: what it takes to store it without tricks; lower is better."""

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _one(outputs.parameters)


@dataclass(frozen=True)
class NonzeroParameters(Counted):
    """Parameters that are not exactly zero, biases and norms included; lower is better."""

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _one(outputs.nonzero)


@dataclass(frozen=True)
class DenseFlops(Counted):
    """Floating-point operations for one image with all weights counted, two a multiplication; lower is better."""

    unit = "FLOPs"

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _one(2 * outputs.dense_macs)


@dataclass(frozen=True)
class EffectiveFlops(Counted):
    """Floating-point operations for one image without those on zero weights: theoretical; lower is better.

    No time follows from it: dense kernels multiply by zeros as fast as by anything else. What this device makes
    of the network is `measured-latency`.
    """

    unit = "FLOPs"

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _one(2 * outputs.effective_macs)


@dataclass(frozen=True)
class Timing(Metric):
    """Base of the timings: one value per repeat, their median counts, and another run gives other values."""

    consumes = ResourceUse
    deterministic = False
    range = (0.0, float("inf"))

    def aggregate(self, values: Floats) -> float:
        """Return the median over the repeats."""
        import numpy as np

        return float(np.median(values))


@dataclass(frozen=True)
class MeasuredLatency(Timing):
    """Measured time for one image, the batch's time shared evenly: median over the repeats.

    It is not ranked, and has no better direction: of networks that are only masked, the differences are noise.
    `measured-speedup` is the number to compare.
    """

    higher_is_better = None
    unit = "ms"

    def values(self, outputs: ResourceUse) -> Tensor:
        """(R,) float64 milliseconds an image, one a repeat."""
        return outputs.seconds.double() * 1000 / outputs.batch_size


@dataclass(frozen=True)
class MeasuredSpeedup(Timing):
    """Measured time of the dense network over this one's, median over the repeats; higher is better.

    Exactly 1 for a network that is only masked: it does the dense network's work.
    """

    def values(self, outputs: ResourceUse) -> Tensor:
        """(R,) float64, one a repeat."""
        return outputs.dense_seconds.double() / outputs.seconds.double()


@dataclass(frozen=True)
class MeasuredPeakMemory(Counted):
    """Measured memory of the network and of a batch passing through it, at most; lower is better.

    Applies on CUDA devices only: elsewhere no allocator tells.
    """

    deterministic = False
    unit = "MiB"

    def applies(self, outputs: Outputs) -> bool:
        """Whether the memory was measured."""
        return isinstance(outputs, ResourceUse) and outputs.peak_memory is not None

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _one((outputs.peak_memory or 0) / 2**20)


def _one(number: float) -> Tensor:
    import torch

    return torch.tensor([number], dtype=torch.float64)
