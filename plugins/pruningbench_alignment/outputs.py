"""Outputs of the tasks of this plugin that are no answers to single trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import Degenerate, Outputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MapPairs(Outputs):
    """Where a model and people find what matters, on N images.

    Attributes:
        maps: (N, h, w) float of the model, larger = more relevant.
        human: (N, h, w) float of people, in the same pixels.
    """

    maps: Tensor
    human: Tensor

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.maps)

    def degenerate(self) -> Degenerate | None:
        """Count constant maps of the model."""
        from pruningbench.contract.degeneracy import constant_maps

        return constant_maps(self.maps)


@dataclass(frozen=True)
class Similarities(Outputs):
    """How alike a model and people find each pair of N images.

    Attributes:
        model: (N, N) float, symmetric, larger = more alike; NaN for images without an embedding.
        human: (N, N) float, symmetric; NaN where a pair was not judged.
    """

    model: Tensor
    human: Tensor

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.model)
