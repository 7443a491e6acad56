"""How far the embeddings of smaller networks are from those of the dense one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from pruningbench.contract import PruningBenchError
from pruningbench.pruning.weight_inputs import in_double
from pruningbench_structured.elastic import Removed, Units, without_units


@dataclass(frozen=True)
class Projection:
    """The principal components of embeddings.

    Attributes:
        mean: (D,) float64.
        components: (D, k) float64, orthonormal columns, largest variance first.
    """

    mean: Tensor
    components: Tensor

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Map (n, D) to (n, k), centred by the mean."""
        return (embeddings - self.mean) @ self.components


def principal_components(embeddings: Tensor, count: int) -> Projection | None:
    """Return the first principal components of (n, D) embeddings, or None if there are no more than `count` channels.

    n embeddings have n - 1 components at most.
    """
    if count >= embeddings.shape[1]:
        return None
    mean = embeddings.mean(0)
    _, _, directions = torch.linalg.svd(embeddings - mean, full_matrices=False)
    return Projection(mean, directions[: min(count, len(embeddings) - 1)].T)


class Fidelity:
    """Measures the mean cosine distance between the embeddings of smaller networks and those of the dense one.

    Args:
        network: maps images to (B, D) embeddings, in eval mode; it is not modified.
        units: its hidden units and heads.
        batches: the images, (B, ...) each; two at least in all.
        components: number of principal components of the dense embeddings in which the cosine is taken; with D or more
            it is that of the embeddings themselves.

    Raises:
        PruningBenchError: for fewer than two images.
    """

    def __init__(self, network: nn.Module, units: Units, batches: Sequence[Tensor], components: int) -> None:
        self._network, self._units, self._batches = network, units, batches
        dense = self._embeddings(network)
        if len(dense) < 2:
            raise PruningBenchError("pruner 'snapvit' needs two images at least to compare embeddings: give more")
        self._projection = principal_components(dense, components)
        self._dense = self._projected(dense)

    def distance(self, removed: Sequence[Removed]) -> float:
        """Return ``1 - mean cos``, in [0, 2]: over images, and over networks without each of the given units.

        Raises:
            PruningBenchError: if embeddings are NaN or infinite.
        """
        distances = []
        for gone in removed:
            smaller = copy.deepcopy(self._network)
            without_units(smaller, self._units, gone)
            cosines = cosine_similarity(self._projected(self._embeddings(smaller)), self._dense)
            distances.append(1 - float(cosines.mean()))
        return sum(distances) / len(distances)

    def _projected(self, embeddings: Tensor) -> Tensor:
        return embeddings if self._projection is None else self._projection(embeddings)

    def _embeddings(self, network: nn.Module) -> Tensor:
        with torch.no_grad():
            found = in_double(torch.cat([network(images) for images in self._batches]))
        if not torch.isfinite(found).all():
            raise PruningBenchError("pruner 'snapvit': embeddings of a smaller network are NaN or infinite")
        return found
