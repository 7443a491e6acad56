"""Judgements by embeddings: which of three images is odd, and which of two is closer to a third."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Similarity = Literal["cosine", "dot"]

PAIRS = ((0, 1), (0, 2), (1, 2))
"""Positions of the pairs in a triplet; the odd one of pair i is at position 2 - i."""


def odd_one_out(embeddings: Tensor, triplets: Tensor, similarity: Similarity = "cosine") -> Tensor:
    """Return the odd one of each triplet: the image outside the most similar pair.

    Chance is 1/3. If pairs are equally similar, the first in the order (0, 1), (0, 2), (1, 2) counts.
    Source: Hebart et al., Revealing the multidimensional mental representations of natural objects
    underlying human similarity judgements, Nature Human Behaviour 2020.

    Args:
        embeddings: (N, D) float.
        triplets: (T, 3) int64 positions of images.
        similarity: cosine of the angle, or plain dot product.

    Returns:
        (T,) int64 in 0..2, the position of the odd one; -1 where a similarity is NaN.

    Raises:
        ValueError: if a triplet names an image that does not exist.
    """
    check_triplets(triplets, len(embeddings))
    vectors = _vectors(embeddings, similarity)[triplets.to(embeddings.device)]
    similar = torch.stack([(vectors[:, a] * vectors[:, b]).sum(dim=1) for a, b in PAIRS], dim=1)
    return (2 - similar.argmax(dim=1)).masked_fill(similar.isnan().any(dim=1), -1)


def closer_one(embeddings: Tensor, triplets: Tensor, similarity: Similarity = "cosine") -> Tensor:
    """Return which of two images is more similar to a reference.

    Args:
        embeddings: (N, D) float.
        triplets: (T, 3) int64 positions of images: reference, left, right.
        similarity: cosine of the angle, or plain dot product.

    Returns:
        (T,) float64: 1 for the right one, 0 for the left one, .5 where both are equally similar; NaN
        where a similarity is NaN.

    Raises:
        ValueError: if a triplet names an image that does not exist.
    """
    check_triplets(triplets, len(embeddings))
    vectors = _vectors(embeddings, similarity)[triplets.to(embeddings.device)]
    left, right = ((vectors[:, 0] * vectors[:, i]).sum(dim=1) for i in (1, 2))
    return (((right - left).sign() + 1) / 2).masked_fill(left.isnan() | right.isnan(), float("nan"))


def check_triplets(triplets: Tensor, images: int) -> None:
    """Refuse triplets (T, 3) that do not fit a number of images.

    Raises:
        ValueError: with a message that names the problem.
    """
    if triplets.ndim != 2 or triplets.shape[1] != 3:
        raise ValueError(f"triplets must be (T, 3), got {tuple(triplets.shape)}")
    if len(triplets) and not (int(triplets.min()) >= 0 and int(triplets.max()) < images):
        wrong = int(triplets.min()) if int(triplets.min()) < 0 else int(triplets.max())
        raise ValueError(f"a triplet names image {wrong}, but there are {images} images")


def _vectors(embeddings: Tensor, similarity: Similarity) -> Tensor:
    exact = embeddings.double()
    if similarity == "dot":
        return exact
    length: Tensor = exact.norm(dim=1, keepdim=True)
    return exact / length.clamp_min(torch.finfo(torch.float64).tiny)


def repeated_agreement(triplets: Tensor, odd: Tensor) -> float | None:
    """Return how often two judgements of the same three images agree, or None if none was judged twice.

    This is each triplet's share of agreeing pairs of judgements, averaged over triplets judged more than once.
    """
    ordered, _ = triplets.sort(dim=1)
    image = triplets.gather(1, odd[:, None])[:, 0]  # the odd image: positions differ between judgements
    _, groups = torch.unique(ordered, dim=0, return_inverse=True)
    _, cells = torch.unique(torch.stack([groups, image]), dim=1, return_inverse=True)
    judged = torch.bincount(groups).double()
    alike = torch.bincount(cells).double()
    agreeing = torch.zeros_like(judged)
    group_of_cell = torch.zeros(len(alike), dtype=torch.int64).scatter_(0, cells, groups)
    agreeing.index_add_(0, group_of_cell, alike * (alike - 1))
    several = judged > 1
    if not bool(several.any()):
        return None
    return float((agreeing[several] / (judged * (judged - 1))[several]).mean())
