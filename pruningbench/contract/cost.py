"""What a pruner costs: passes over data, and memory, estimated before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

SCORING_BATCH = 128
"""Samples in each batch that a pruner's ``batches`` counts, unless the pruner has a field ``batch_size``. The suite's
``batch_size`` may make batches smaller to fit memory; it must not affect which samples are seen."""

FLOAT, DOUBLE = 4, 8
"""Bytes of a weight in float32 and in float64."""


@dataclass(frozen=True)
class Outline:
    """What a pruner would work on, as far as it is known without weights and data.

    Attributes:
        shapes: prunable parameter -> its shape, in order.
        state_bytes: bytes of all parameters and buffers of the network.
        activation_bytes: what autograd keeps of one image for the backward pass, in bytes; 0 if unknown.
        widest_bytes: the largest single tensor among these, in bytes; 0 if unknown.
        image_bytes: one input image as float32, in bytes; 0 if unknown.
        samples: number of scoring samples; None if unknown.
        batch_size: scoring samples per batch.
        sparsity: share of the prunable weights to prune, in [0, 1).
        device_memory: memory of the device in bytes; None if unknown.
        on_cpu: whether the device is the CPU.
    """

    shapes: Mapping[str, tuple[int, ...]]
    state_bytes: int = 0
    activation_bytes: int = 0
    widest_bytes: int = 0
    image_bytes: int = 0
    samples: int | None = None
    batch_size: int = SCORING_BATCH
    sparsity: float = 0.5
    device_memory: int | None = None
    on_cpu: bool = True
    sizes: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", {name: math.prod(shape) for name, shape in self.shapes.items()})

    @property
    def weights(self) -> int:
        """Number of prunable weights."""
        return sum(self.sizes.values())

    @property
    def largest(self) -> int:
        """Number of weights of the largest prunable parameter."""
        return max(self.sizes.values(), default=0)

    @property
    def masking_bytes(self) -> int:
        """Bytes needed to turn float32 scores into masks: ``S + 6 W + 9 Wmax``.

        They hold a copy of the state to restore the network, the scores, the masks and the copy of the masks that
        is returned, and one parameter's scores while they are checked.
        """
        return self.state_bytes + (FLOAT + 2) * self.weights + 9 * self.largest

    @property
    def pass_bytes(self) -> int:
        """Bytes of one image and its activations, A."""
        return self.image_bytes + self.activation_bytes

    def images(self, most: int | None) -> int | None:
        """Return how many scoring images a pruner uses if it takes at most `most`; None if unknown."""
        limits = [number for number in (most, self.samples) if number is not None]
        return min(limits) if limits else None


@dataclass(frozen=True)
class Cost:
    """What a pruning costs.

    Attributes:
        forward, backward: passes over `samples` images each.
        samples: images per pass; None for all scoring data if their number is unknown.
        memory: peak bytes in addition to the network itself and its data set.
        formula: how `memory` is computed, one line; W prunable weights (Wmax in the largest parameter), S bytes of
            the network's state, A bytes of one image and its activations, b images per batch.
        refusal: why it cannot be done with these settings on any machine; None if it can.
    """

    forward: int
    backward: int
    samples: int | None
    memory: int
    formula: str
    refusal: str | None = None


def format_bytes(number: float) -> str:
    """Return an amount of memory in readable form, in units of 1000: ``13 GB``, ``640 MB``, ``0.25 MB``."""
    unit, name = (1e9, "GB") if number >= 1e9 else (1e6, "MB")
    amount = number / unit
    return f"{amount:.0f} {name}" if amount >= 100 else f"{amount:.2g} {name}"
