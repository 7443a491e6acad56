"""Calibration: whether confidence matches accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruningbench.contract.statistics import Floats

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of equal width, the content of a reliability diagram.

    Attributes:
        edges: (bins + 1,) float64, from 0 to 1; a bin includes its upper edge.
        count: (bins,) int64 number of samples.
        confidence: (bins,) float64 mean confidence, NaN for an empty bin.
        accuracy: (bins,) float64 share of right predictions, NaN for an empty bin.
    """

    edges: Floats
    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over samples of their bin's gap, in [0, 1]; NaN without samples."""
        if not self.count.sum():
            return float("nan")
        with np.errstate(invalid="ignore"):
            return float(_errors(np.abs(self.accuracy - self.confidence)[None], self.count[None])[0])


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Sort predictions into bins by confidence, the largest probability of each.

    Args:
        probabilities: (N, C) in [0, 1]; samples with a NaN are left out.
        labels: (N,) int64.
        bins: number of bins of equal width on [0, 1], >= 1.
    """
    return reliability_of(confidences(probabilities, labels), bins)


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return the expected calibration error of class probabilities, in [0, 1]; lower is better.

    ``sum over bins of share * |accuracy - confidence|``, in float64; see `reliability` for the arguments.

    Source: Naeini et al., Obtaining well calibrated probabilities using Bayesian binning (AAAI 2015); Guo et
    al., On calibration of modern neural networks (ICML 2017), equation 5.
    """
    return reliability(probabilities, labels, bins).error


def confidences(probabilities: Tensor, labels: Tensor) -> Floats:
    """Return (N, 2) float64: the confidence of each prediction, and 1 where it is right; NaN for a NaN row."""
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        shapes = tuple(probabilities.shape), tuple(labels.shape)
        raise ValueError(f"probabilities and labels must be (N, C) and (N,), got {shapes[0]} and {shapes[1]}")
    confidence, chosen = probabilities.max(dim=1)
    right = (chosen == labels.to(chosen.device)).double()
    pairs = torch.stack([confidence.double(), right.masked_fill(confidence.isnan(), float("nan"))], dim=1)
    array: Floats = pairs.detach().cpu().numpy()
    return array


def reliability_of(pairs: Floats, bins: int = BINS) -> Reliability:
    """Return the reliability of (N, 2) confidences and hits as `confidences` gives them."""
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = _places(edges, pairs)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence, accuracy = (np.bincount(place, column, minlength=bins) / count for column in pairs.T)
    return Reliability(edges, count, confidence, accuracy)


def errors_of_picks(pairs: Floats, picks: NDArray[np.int64], bins: int = BINS) -> Floats:
    """Return ``reliability_of(pairs[pick], bins).error`` for each pick, with the same bits.

    Args:
        pairs: (N, 2) confidences and hits without NaN.
        picks: (R, m) rows of `pairs`, m >= 1.
        bins: number of bins, >= 1.

    Returns:
        (R,) float64.
    """
    # a bin of a pick is summed in the order of the pick, whether one pick is counted or many
    place = (_places(np.linspace(0.0, 1.0, bins + 1), pairs)[picks] + bins * np.arange(len(picks))[:, None]).ravel()
    count = np.bincount(place, minlength=bins * len(picks))
    with np.errstate(invalid="ignore"):
        confidence, accuracy = (
            np.bincount(place, column[picks].ravel(), minlength=len(count)) / count for column in pairs.T
        )
    return _errors(np.abs(accuracy - confidence).reshape(-1, bins), count.reshape(-1, bins))


def _errors(gaps: Floats, counts: NDArray[np.int64]) -> Floats:
    """Return the mean gap over samples of each row of bins; a bin without samples has no gap.

    Rows with as many filled bins are summed together, which gives each the bits that it has alone.
    """
    filled = counts > 0
    numbers, errors = filled.sum(axis=1), np.empty(len(gaps))
    for number in np.unique(numbers):
        rows = numbers == number
        sums = (gaps[rows][filled[rows]] * counts[rows][filled[rows]]).reshape(-1, number).sum(axis=1)
        errors[rows] = sums / counts[rows].sum(axis=1)
    return errors


def _places(edges: Floats, pairs: Floats) -> NDArray[np.int64]:
    """Return the bin of each pair."""
    place: NDArray[np.int64] = np.clip(np.searchsorted(edges, pairs[:, 0], side="left") - 1, 0, len(edges) - 2)
    return place
