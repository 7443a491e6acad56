"""Outputs of this plugin's tasks that are not answers to single trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import Degenerate, Outputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MapPairs(Outputs):
    """Importance maps of a model and of people, on N images.

    Attributes:
        maps: (N, h, w) float maps of the model, larger = more relevant.
        human: (N, h, w) float maps of people, in the same pixels.
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
    """Similarities of each pair of N images, for a model and for people.

    Attributes:
        model: (N, N) float, symmetric, larger = more similar; NaN for images without an embedding.
        human: (N, N) float, symmetric; NaN where a pair was not judged.
    """

    model: Tensor
    human: Tensor

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.model)
