"""Linear probe: logistic regression on frozen features."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruningbench.contract.statistics import Floats
from pruningbench_transfer.neighbours import check_features

MAX_ITERATIONS = 1000
TOLERANCE = 1e-6


def linear_probe(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    C: float = 1.0,
    *,
    classes: int | None = None,
    standardise: bool = True,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Return the log-probabilities of a multinomial logistic regression fitted on the training features.

    Features are standardised to mean 0 and standard deviation 1 by the statistics of `train`, in float64. A
    column that is constant on `train` becomes 0 and has no influence. The fit is scikit-learn's L-BFGS with
    an l2 penalty on the weights and none on the intercept. Training samples with non-finite features are
    left out.

    Args:
        train: (N, D) features.
        labels: (N,) int64 classes of `train`.
        test: (T, D) features.
        C: inverse strength of the penalty, > 0; the sum of the losses of all samples has weight C.
        classes: number of classes; the largest label + 1 by default.
        standardise: whether to standardise the features; if False, they are used unchanged.
        tolerance: the fit has converged when the largest gradient entry is at most this, > 0.

    Returns:
        (T, classes) float64 <= 0 on the CPU, -inf for a class without training samples. A row is NaN
        if its test features are not finite; all rows are NaN if fewer than two classes have finite
        training features.

    Raises:
        ValueError: for shapes that do not fit, or labels of a single class.
    """
    check_features(train, labels, test)
    targets = labels.cpu().numpy()
    if len(np.unique(targets)) < 2:
        raise ValueError("a linear probe needs at least two classes, but all training labels are the same")
    classes = classes if classes is not None else int(targets.max()) + 1
    x, queries = train.detach().double().cpu().numpy(), test.detach().double().cpu().numpy()
    scores = np.full((len(queries), classes), np.nan)
    fits, asks = np.isfinite(x).all(axis=1), np.isfinite(queries).all(axis=1)
    x, targets, queries = x[fits], targets[fits], queries[asks]
    if len(np.unique(targets)) >= 2 and len(queries):
        if standardise:
            x, queries = _standardise(x, queries)
        scores[asks] = _fit_and_score(x, targets, queries, C, classes, tolerance)
    return torch.from_numpy(scores)


def _standardise(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    mean, std = train.mean(axis=0), train.std(axis=0)
    # float32 features that should be equal differ in their last digits, which is not a signal either
    constant = std <= 1e-6 * np.abs(train).max(axis=0)
    scale = np.where(constant, np.inf, std)
    return (train - mean) / scale, (test - mean) / scale


def _fit_and_score(
    x: Floats, targets: NDArray[np.int64], queries: Floats, C: float, classes: int, tolerance: float
) -> Floats:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(C=C, solver="lbfgs", max_iter=MAX_ITERATIONS, tol=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy is stable after 1000 iterations
        probe.fit(x, targets)
    scores = np.full((len(queries), classes), -np.inf)
    with np.errstate(divide="ignore"):
        scores[:, probe.classes_] = probe.predict_log_proba(queries)
    return scores
