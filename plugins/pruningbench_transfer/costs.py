"""Metrics of a network's costs. Theoretical and measured metrics never share a name."""

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
    """Parameters of the network, including zeros: its size in plain dense storage; lower is better."""

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _scalar(outputs.parameters)


@dataclass(frozen=True)
class NonzeroParameters(Counted):
    """Parameters that are not exactly zero, including biases and norms; lower is better."""

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _scalar(outputs.nonzero)


@dataclass(frozen=True)
class DenseFlops(Counted):
    """Floating-point operations per image with all weights counted, two per multiplication; lower is better."""

    unit = "FLOPs"

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _scalar(2 * outputs.dense_macs)


@dataclass(frozen=True)
class EffectiveFlops(Counted):
    """Theoretical floating-point operations per image without those on zero weights; lower is better.

    It implies nothing about time: dense kernels multiply by zeros as fast as by any other number. The time on this
    device is `measured-latency`.
    """

    unit = "FLOPs"

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _scalar(2 * outputs.effective_macs)


@dataclass(frozen=True)
class Timing(Metric):
    """Base of the timings: the median over one value per repeat; another run gives other values."""

    consumes = ResourceUse
    deterministic = False
    range = (0.0, float("inf"))

    def aggregate(self, values: Floats) -> float:
        """Return the median over the repeats."""
        import numpy as np

        return float(np.median(values))


@dataclass(frozen=True)
class MeasuredLatency(Timing):
    """Measured time per image (the batch's time divided by its size), median over the repeats.

    It is not ranked and has no better direction: differences between networks that are only masked are noise.
    Compare `measured-speedup` instead.
    """

    higher_is_better = None
    unit = "ms"

    def values(self, outputs: ResourceUse) -> Tensor:
        """(R,) float64 milliseconds per image, one value per repeat."""
        return outputs.seconds.double() * 1000 / outputs.batch_size


@dataclass(frozen=True)
class MeasuredSpeedup(Timing):
    """Measured time of the dense network divided by this one's, median over the repeats; higher is better.

    It is exactly 1 for a network that is only masked, because that network does the same work as the dense one.
    """

    def values(self, outputs: ResourceUse) -> Tensor:
        """(R,) float64, one value per repeat."""
        return outputs.dense_seconds.double() / outputs.seconds.double()


@dataclass(frozen=True)
class MeasuredPeakMemory(Counted):
    """Measured peak memory of the network and of a batch passing through it; lower is better.

    It applies on CUDA devices only: other allocators do not report it.
    """

    deterministic = False
    unit = "MiB"

    def applies(self, outputs: Outputs) -> bool:
        """Whether the memory was measured."""
        return isinstance(outputs, ResourceUse) and outputs.peak_memory is not None

    def values(self, outputs: ResourceUse) -> Tensor:
        """(1,) float64."""
        return _scalar((outputs.peak_memory or 0) / 2**20)


def _scalar(number: float) -> Tensor:
    import torch

    return torch.tensor([number], dtype=torch.float64)
