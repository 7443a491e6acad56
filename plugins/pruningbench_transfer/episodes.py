"""Few-shot episodes: small classification problems drawn from one data set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Episodes:
    """E episodes of W classes ("ways") each.

    Attributes:
        support: (E, W, K) int64 positions in the data set, K shots per class.
        query: (E, W, Q) int64 positions, none of them in the support of its episode.
    """

    support: Tensor
    query: Tensor

    @property
    def labels(self) -> Tensor:
        """(E, W * Q) int64 class of each query within its episode."""
        episodes, ways, queries = self.query.shape
        return torch.arange(ways).repeat_interleave(queries).expand(episodes, -1)


def draw_episodes(
    labels: Tensor, ways: int, shots: int, queries: int, count: int, generator: torch.Generator
) -> Episodes:
    """Draw episodes: classes without replacement, then shots and queries of each class without replacement.

    Args:
        labels: (N,) int64 on the CPU.
        ways: classes per episode, >= 1.
        shots: support images per class, >= 1.
        queries: query images per class, >= 1.
        count: number of episodes, >= 1.
        generator: source of the draws, on the CPU.

    Raises:
        ValueError: if fewer than `ways` classes have ``shots + queries`` images.
    """
    members = [(labels == label).nonzero()[:, 0] for label in sorted(set(labels.tolist()))]
    large = [member for member in members if len(member) >= shots + queries]
    if len(large) < ways:
        raise ValueError(
            f"{ways}-way episodes of {shots} shots and {queries} queries need {ways} classes of {shots + queries} "
            f"images, but only {len(large)} of {len(members)} have as many"
        )
    drawn = torch.empty(count, ways, shots + queries, dtype=torch.int64)
    for episode in drawn:
        for way, chosen in enumerate(torch.randperm(len(large), generator=generator)[:ways].tolist()):
            order = torch.randperm(len(large[chosen]), generator=generator)[: shots + queries]
            episode[way] = large[chosen][order]
    return Episodes(drawn[..., :shots], drawn[..., shots:])


def prototype_scores(support: Tensor, query: Tensor) -> Tensor:
    """Score queries by their distance to the mean of each class's support.

    Features are l2-normalised; the score is the negative squared Euclidean distance. Support images with
    non-finite features do not count.

    Args:
        support: (E, W, K, D) features.
        query: (E, M, D) features.

    Returns:
        (E, M, W) float64 <= 0; NaN where the query's features are not finite or a class has no finite support.

    Source: Snell et al., Prototypical networks for few-shot learning (NeurIPS 2017); on normalised features as
    in Wang et al., SimpleShot (2019).
    """
    prototypes = _unit(support).nanmean(dim=2)
    return -torch.cdist(_unit(query), prototypes, compute_mode="donot_use_mm_for_euclid_dist").square()


def _unit(features: Tensor) -> Tensor:
    finite = features.isfinite().all(dim=-1, keepdim=True)
    return torch.where(finite, normalize(torch.where(finite, features, 0.0).double(), dim=-1), float("nan"))
