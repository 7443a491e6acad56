"""Similarity of two representations of the same images."""

from __future__ import annotations

import torch
from torch import Tensor

CONSTANT = 1e-6
"""A standard deviation below this share of the largest value is rounding error, not a signal."""


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Return the linear centred kernel alignment of two representations, in [0, 1]; 1 = equal up to rotation.

    ``||Y' X||_F^2 / (||X' X||_F ||Y' Y||_F)`` of the matrices with centred columns, in float64; NaN if one of
    them is constant.

    Args:
        x: (N, D) features.
        y: (N, E) features of the same images in the same order.

    Returns:
        () float64.

    Raises:
        ValueError: for shapes that do not fit.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited (ICML 2019), equation 5.
    """
    return cka_values(x, y).nanmean()


def cka_values(x: Tensor, y: Tensor) -> Tensor:
    """Return one value per image; their mean is `linear_cka` and their spread its uncertainty.

    The value of image i is the alignment plus the influence of i on it (the infinitesimal jackknife), so that
    resampling these values resamples the alignment to first order. Values may leave [0, 1].

    Returns:
        (N,) float64; NaN for images with non-finite features, and for all images if a representation of the others
        is constant.
    """
    _check(x, y)
    values = torch.full((len(x),), float("nan"), dtype=torch.float64, device=x.device)
    fine = x.isfinite().all(dim=1) & y.isfinite().all(dim=1)
    left, right = _centred(x[fine]), _centred(y[fine])
    if not (bool(left.any()) and bool(right.any())):
        return values
    across, within_left, within_right = _products(left, right), _products(left, left), _products(right, right)
    size = (within_left.mean() * within_right.mean()).sqrt()
    alignment = across.mean() / size
    influence = 2 * across / size - alignment * (within_left / within_left.mean() + within_right / within_right.mean())
    values[fine] = alignment + influence
    return values


def _check(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"representations must be (N, D) and (N, E), got {tuple(x.shape)} and {tuple(y.shape)}")


def _centred(x: Tensor) -> Tensor:
    """Return the columns in float64 with mean 0, and exactly 0 where they are constant up to rounding."""
    if not len(x):
        return x.double()
    centred = x.double() - x.double().mean(dim=0)
    return centred.masked_fill(centred.std(dim=0, correction=0) <= CONSTANT * x.abs().amax(dim=0), 0.0)


def _products(x: Tensor, y: Tensor) -> Tensor:
    """Return (N,) x_i' C y_i with C the covariance of x and y; their mean is ||C||_F^2."""
    if len(x) < min(x.shape[1], y.shape[1]):
        return ((x @ x.T) * (y @ y.T)).sum(dim=1) / len(x)
    return ((x @ (x.T @ y / len(x))) * y).sum(dim=1)


def neuron_values(x: Tensor, y: Tensor) -> Tensor:
    """Return one value per image; their mean is the neurons' mean correlation between x and y.

    A neuron is a column; it is compared with the column of the same index (Pearson correlation over the images). A
    neuron that is constant in x but not in y is dead and counts 0; a neuron that is constant in y is left out. As in
    `cka_values`, an image's value includes its influence.

    Args:
        x: (N, D) features of the pruned model.
        y: (N, D) features of the dense model, with rows and columns in the same order.

    Returns:
        (N,) float64; NaN for images with non-finite features, and for all images if y is constant.
    """
    _check(x, y)
    if x.shape != y.shape:
        raise ValueError(f"neurons are compared one by one, but their numbers differ: {x.shape[1]} and {y.shape[1]}")
    values = torch.full((len(x),), float("nan"), dtype=torch.float64, device=x.device)
    fine = x.isfinite().all(dim=1) & y.isfinite().all(dim=1)
    left, right = _centred(x[fine]), _centred(y[fine])
    alive = right.any(dim=0) if len(right) else right.new_zeros(right.shape[1], dtype=torch.bool)
    if not bool(alive.any()):
        return values
    left, right = _standardised(left[:, alive]), _standardised(right[:, alive])
    correlation = (left * right).mean(dim=0)
    influence = left * right - correlation * (left.square() + right.square()) / 2
    values[fine] = (correlation + influence).mean(dim=1)
    return values


def _standardised(centred: Tensor) -> Tensor:
    deviation = centred.std(dim=0, correction=0)
    return centred / torch.where(deviation > 0, deviation, 1.0)
