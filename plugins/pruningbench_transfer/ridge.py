"""The closed-form ridge head: a linear classifier on frozen features, without any training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class RidgeHead:
    """A linear head on features; call it to get class scores.

    Attributes:
        weight: (D, C) float64.
        bias: (C,) float64; -inf for a class without training samples, so that it is never predicted.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(N, D) features -> (N, C) float64 scores; a row with non-finite features gives NaN."""
        finite = features.isfinite().all(dim=1, keepdim=True)
        scores = torch.where(finite, features, 0.0).double() @ self.weight + self.bias
        return torch.where(finite, scores, float("nan"))


def ridge_head(features: Tensor, labels: Tensor, alpha: float = 1.0, *, classes: int | None = None) -> RidgeHead:
    """Fit a ridge head with class-balanced weights and one-hot targets.

    It minimises ``sum_i w_i ||x_i W + b - onehot(y_i)||^2 + alpha ||W||^2``, where the bias is not
    penalised and ``w_i = n / (C * samples of the class of i)``, so that every class has the same weight. It is
    solved by the normal equations in float64.

    Args:
        features: (N, D), N >= 1.
        labels: (N,) int64.
        alpha: strength of the penalty, > 0.
        classes: number of classes; the largest label + 1 by default. C above counts the classes that occur.

    Raises:
        ValueError: for shapes that do not fit, features that are not finite, or an alpha out of range.

    Source: the protocol of A Second-Order Perspective on Pruning at Initialization and Knowledge Transfer
    (arXiv 2509.24066), which fits it on the dense backbone.
    """
    if features.ndim != 2 or len(features) != len(labels) or not len(features):
        raise ValueError(f"features and labels must be (N, D) and (N,), got {(*features.shape,)}, {(*labels.shape,)}")
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    bad = int((~features.isfinite().all(dim=1)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(features)} features are not finite: no ridge head fits them")
    x, labels = features.double(), labels.to(features.device).long()
    targets = one_hot(labels, classes if classes is not None else -1).double()
    counts = targets.sum(dim=0)
    weights = (len(x) / ((counts > 0).sum() * counts))[labels][:, None]
    total = weights.sum()
    x_mean, y_mean = (weights * x).sum(dim=0) / total, (weights * targets).sum(dim=0) / total
    scale = weights.sqrt()
    design = (x - x_mean).mul_(scale)
    gram = design.T @ design
    gram.diagonal().add_(alpha)
    weight = torch.cholesky_solve(design.T @ (scale * (targets - y_mean)), torch.linalg.cholesky(gram))
    bias = (y_mean - x_mean @ weight).masked_fill(counts == 0, float("-inf"))
    return RidgeHead(weight, bias)
