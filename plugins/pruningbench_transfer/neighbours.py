"""Weighted k-nearest-neighbour classification of frozen features.

Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, section
3.4, with the settings of DINO (Caron et al., ICCV 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

_BLOCK = 2**24
"""Similarities held in memory at a time: 128 MiB in float64."""


def knn_predict(train: Tensor, labels: Tensor, test: Tensor, k: int = 20, temperature: float = 0.07) -> Tensor:
    """Return the class with the most weighted votes among each test sample's k nearest neighbours.

    Ties go to the lower class. See `knn_scores` for the arguments and the rule.

    Returns:
        (T,) int64; -1 where there is no prediction because features are not finite.
    """
    scores = knn_scores(train, labels, test, k, temperature)
    return scores.argmax(dim=1).masked_fill(scores.isnan().any(dim=1), -1)


def knn_scores(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    *,
    classes: int | None = None,
) -> Tensor:
    """Return the weighted votes for each class: the sum of exp(s / temperature) over its neighbours.

    s is the cosine similarity. The neighbours are the `k` training samples with the largest s (ties by
    lower index), or all samples if there are fewer than `k`. Training samples with non-finite features are
    never neighbours. Computed in float64.

    Args:
        train: (N, D) features.
        labels: (N,) int64 classes of `train`.
        test: (T, D) features.
        k: number of neighbours, >= 1.
        temperature: > 0; smaller values give the nearest neighbours more weight.
        classes: number of classes C; the largest label + 1 by default.

    Returns:
        (T, C) float64 >= 0; a row is NaN if its test features are not finite or no training features are.

    Raises:
        ValueError: for shapes that do not fit, or a `k` or `temperature` out of range.
    """
    return knn_scores_for(train, labels, test, [k], temperature, classes=classes)[0]


def knn_scores_for(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    ks: Sequence[int],
    temperature: float = 0.07,
    *,
    classes: int | None = None,
) -> list[Tensor]:
    """Return `knn_scores` for several numbers of neighbours, computing the similarities once."""
    check_features(train, labels, test)
    if not ks or min(ks) < 1 or not temperature > 0:
        raise ValueError(f"k must be at least 1 and temperature positive, got {list(ks)} and {temperature}")
    labels = labels.to(train.device).long()
    classes = classes if classes is not None else int(labels.max()) + 1 if len(labels) else 0
    usable = train.isfinite().all(dim=1)
    bank, bank_labels = normalize(train[usable].double(), dim=1), labels[usable]
    if not len(bank):
        nothing = torch.full((len(test), classes), float("nan"), dtype=torch.float64, device=test.device)
        return [nothing.clone() for _ in ks]
    sizes = [min(k, len(bank)) for k in ks]
    rows = max(1, _BLOCK // len(bank))
    parts = [_votes(bank, bank_labels, classes, part, sizes, temperature) for part in torch.split(test, rows)]
    return [torch.cat(scores_of_k) for scores_of_k in zip(*parts, strict=True)]


def check_features(train: Tensor, labels: Tensor, test: Tensor) -> None:
    """Raise a ValueError unless the shapes are (N, D), (N,) and (T, D)."""
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or len(labels) != len(train):
        shapes = [tuple(tensor.shape) for tensor in (train, labels, test)]
        raise ValueError(f"train, labels and test must be (N, D), (N,) and (T, D), got {shapes}")


def _votes(
    bank: Tensor, labels: Tensor, classes: int, test: Tensor, ks: Sequence[int], temperature: float
) -> list[Tensor]:
    finite = test.isfinite().all(dim=1, keepdim=True)
    queries = normalize(torch.where(finite, test, 0.0).double(), dim=1)
    similarity = queries @ bank.T
    # one neighbour more than needed shows whether there is a tie at the last place
    nearest, index = similarity.topk(min(max(ks) + 1, len(bank)), dim=1)
    voters = labels[index]
    scores = []
    for k in ks:
        weights = (nearest[:, :k] / temperature).exp()
        votes = weights.new_zeros(len(test), classes).scatter_add_(1, voters[:, :k], weights)
        if k < nearest.shape[1]:
            tied = (nearest[:, k - 1] == nearest[:, k]).nonzero()[:, 0]
            if len(tied):
                votes[tied] = _votes_in_order(similarity[tied], labels, classes, k, temperature)
        scores.append(torch.where(finite, votes, float("nan")))
    return scores


def _votes_in_order(similarity: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Return the votes where samples tie for the k-th place: the lower index enters, while topk takes any."""
    last = similarity.topk(k, dim=1).values[:, -1:]
    nearer, equal = similarity > last, similarity == last
    enters = nearer | (equal & (equal.cumsum(dim=1) <= k - nearer.sum(dim=1, keepdim=True)))
    weights = torch.where(enters, (similarity / temperature).exp(), 0.0)
    return weights @ one_hot(labels, classes).double()
