"""Agreement of two observers in what they get right: accuracy, observed and error consistency.

Geirhos et al., Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans by measuring
error consistency, NeurIPS 2020; Geirhos et al., Partial success in closing the gap between human and
machine vision, NeurIPS 2021, appendix, for the averages.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pruningbench.contract.statistics import Floats

SHOWN_TO_NOBODY = -1.0
"""Entry in a table of trials: this person was never shown this image."""
FIRST_PERSON = 3
"""Number of columns before those of the people in a table of trials: data set, group, whether the model is right."""

Compare = Callable[[Floats, Floats, Floats], Floats]
"""Maps the accuracies of two observers, and how often both are right or both wrong, to a number."""


def error_consistency(correct_a: Tensor, correct_b: Tensor) -> float:
    """Return Cohen's kappa of two observers' correctness, (o - e) / (1 - e).

    o is the share of trials that both get right or both get wrong, and e is the share expected of independent
    observers with the same accuracies, p1 p2 + (1 - p1)(1 - p2). If e = 1, because both are always right or both
    always wrong, the result is 1.

    Args:
        correct_a: (T,) bool, whether one observer got each trial right.
        correct_b: (T,) bool, the same for the other observer.

    Returns:
        A number in [-1, 1]; 0 = agreement at chance; NaN without trials.

    Raises:
        ValueError: if the shapes differ.
    """
    if correct_a.shape != correct_b.shape or correct_a.ndim != 1:
        raise ValueError(
            f"both arrays of trials must be (T,), got {tuple(correct_a.shape)} and {tuple(correct_b.shape)}"
        )
    if not len(correct_a):
        return float("nan")
    a, b = correct_a.bool().cpu().numpy(), correct_b.bool().cpu().numpy()
    return float(kappa(np.array(a.mean()), np.array(b.mean()), np.array((a == b).mean())))


def kappa(p1: Floats, p2: Floats, observed: Floats) -> Floats:
    """Return error consistency from accuracies and observed consistency, element by element."""
    expected = p1 * p2 + (1 - p1) * (1 - p2)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = np.where(expected == 1, 1.0, (observed - expected) / (1 - expected))
    return np.where(np.isnan(observed), np.nan, result)


def squared_gap(p1: Floats, p2: Floats, observed: Floats) -> Floats:  # noqa: ARG001 - one of the comparisons
    """Return the squared difference of two accuracies."""
    gap: Floats = (p1 - p2) ** 2
    return gap


def agreement(p1: Floats, p2: Floats, observed: Floats) -> Floats:  # noqa: ARG001 - one of the comparisons
    """Return the observed consistency itself."""
    return observed


def model_to_people(table: Floats, compare: Compare) -> float:
    """Compare a model with each person; average over conditions, then people, then data sets.

    Args:
        table: (N, 3 + S) trials: number of the data set, number of the group (a condition of a data
            set; data sets share no groups), whether the model is right, whether each person of this data
            set is right; `SHOWN_TO_NOBODY` for a person who was not shown the image.
        compare: the comparison to average.

    Returns:
        The average; NaN if no trial was shown to anybody.
    """
    groups, set_of_group = _groups(table)
    people = table[:, FIRST_PERSON:]
    shown = people >= 0
    model = table[:, 2][:, None] > 0
    right = people > 0
    count, by_model, by_people, alike = (
        _sums(groups, len(set_of_group), counted & shown) for counted in (shown, model, right, model == right)
    )
    with np.errstate(invalid="ignore"):
        compared = compare(by_model / count, by_people / count, alike / count)
    return _average(compared, set_of_group)


def people_to_people(table: Floats, compare: Compare) -> float:
    """Compare people with each other; average over conditions, then pairs of people, then data sets.

    Args:
        table: as for `model_to_people`.
        compare: the comparison to average.

    Returns:
        The average; NaN if no two people saw the same images.
    """
    groups, set_of_group = _groups(table)
    size = table.shape[1] - FIRST_PERSON
    first, second = np.triu_indices(size, 1)
    compared = np.full((len(set_of_group), len(first)), np.nan)
    for group in range(len(set_of_group)):
        people = table[groups == group][:, FIRST_PERSON:]
        shown, right, wrong = (mask.astype(float) for mask in (people >= 0, people > 0, people == 0))
        with np.errstate(invalid="ignore"):
            both = shown.T @ shown
            accuracy_of_first, accuracy_of_second = (right.T @ shown) / both, (shown.T @ right) / both
            alike = (right.T @ right + wrong.T @ wrong) / both
        compared[group] = compare(accuracy_of_first, accuracy_of_second, alike)[first, second]
    return _average(compared, set_of_group)


def accuracy(table: Floats) -> float:
    """Return the model's accuracy, averaged over conditions, then data sets."""
    groups, set_of_group = _groups(table)
    right = _sums(groups, len(set_of_group), table[:, 2][:, None] > 0)
    count = _sums(groups, len(set_of_group), np.ones((len(table), 1), dtype=bool))
    return _average(right / count, set_of_group)


def people_accuracy(table: Floats) -> float:
    """Return people's accuracy, averaged over conditions, then people, then data sets."""
    groups, set_of_group = _groups(table)
    people = table[:, FIRST_PERSON:]
    with np.errstate(invalid="ignore"):
        shares = _sums(groups, len(set_of_group), people > 0) / _sums(groups, len(set_of_group), people >= 0)
    return _average(shares, set_of_group)


def shape_bias(decisions: Sequence[str], shapes: Sequence[str], textures: Sequence[str]) -> float:
    """Return the share of shape decisions among decisions for the shape or the texture of an image.

    Source: Geirhos et al., ImageNet-trained CNNs are biased towards texture, ICLR 2019.

    Args:
        decisions: T chosen categories.
        shapes: T categories of the images' shapes.
        textures: T categories of their textures; images with the same shape and texture do not count.

    Returns:
        A number in [0, 1]; 1 = shape only; NaN if no decision was for shape or texture.

    Raises:
        ValueError: if the lengths differ.
    """
    trials = [(d, s, t) for d, s, t in zip(decisions, shapes, textures, strict=True) if s != t]
    by_shape = sum(decision == shape for decision, shape, _ in trials)
    by_texture = sum(decision == texture for decision, _, texture in trials)
    return by_shape / (by_shape + by_texture) if by_shape + by_texture else float("nan")


def _groups(table: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each trial's group, numbered from 0 without gaps, and each group's data set."""
    numbers, groups = np.unique(table[:, 1].astype(np.int64), return_inverse=True)
    set_of_group = np.zeros(len(numbers), dtype=np.int64)
    set_of_group[groups] = table[:, 0].astype(np.int64)
    return groups, set_of_group


def _sums(groups: NDArray[np.int64], count: int, marked: NDArray[np.bool_]) -> Floats:
    """Return (groups, S): the number of marked rows of (N, S) in each group and column."""
    width = marked.shape[1]
    cells = groups[:, None] * width + np.arange(width)
    return np.bincount(cells[marked], minlength=count * width).reshape(count, width).astype(np.float64)


def _average(compared: Floats, set_of_group: NDArray[np.int64]) -> float:
    """Average (groups, S) over the groups of each data set, then over S, then over data sets; NaNs are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing are NaN, as intended
        sets = [np.nanmean(np.nanmean(compared[set_of_group == number], axis=0)) for number in np.unique(set_of_group)]
        return float(np.nanmean(sets)) if sets else float("nan")
