"""Metrics of predictions and of representations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import Features, GroupedPredictions, Metric, Outputs, Predictions, commonest, param

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pruningbench.contract.statistics import Floats


@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of predictions whose class has the highest score; higher is better.

    Ties go to the lower class. A sample with a NaN score is wrong, not undefined: a collapsed network predicts
    nothing, and leaving its samples out would hide that. For grouped predictions, the value of a sample is the
    share in its group.
    """

    consumes = Predictions
    unit = "fraction"
    range = (0.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether `outputs` are predictions, grouped or not."""
        return isinstance(outputs, (Predictions, GroupedPredictions))

    def values(self, outputs: Predictions | GroupedPredictions) -> Tensor:
        """(N,) float64: 1 for a right prediction, 0 for a wrong or missing one; the mean over a group."""
        scores, labels = outputs.scores, outputs.labels.to(outputs.scores.device)
        right = ((scores.argmax(dim=-1) == labels) & ~scores.isnan().any(dim=-1)).double()
        return right.flatten(1).mean(dim=1) if isinstance(outputs, GroupedPredictions) else right

    def chance(self, outputs: Predictions | GroupedPredictions) -> Tensor | None:
        """(N,) float64 of always predicting the most frequent class; None if all labels are equal."""
        constant = commonest(outputs.labels)
        if constant is None:
            return None
        right = (outputs.labels == constant).double()
        return right.flatten(1).mean(dim=1) if isinstance(outputs, GroupedPredictions) else right


@dataclass(frozen=True)
class OfProbabilities(Metric):
    """Base of the metrics of class probabilities: they apply to scores whose softmax is a probability."""

    consumes = Predictions
    higher_is_better = False

    def applies(self, outputs: Outputs) -> bool:
        """Whether `outputs` are predictions with probabilities."""
        return isinstance(outputs, Predictions) and outputs.probabilistic


@dataclass(frozen=True)
class CalibrationError(OfProbabilities):
    """Expected calibration error: the gap between confidence and accuracy; lower is better.

    Per-sample values are pairs (confidence, 1 if right), from which `reliability_of` computes the diagram. A
    sample with NaN probabilities is undefined. Source: Guo et al., On calibration of modern neural networks (2017).
    """

    unit = "fraction"
    range = (0.0, 1.0)

    bins: int = param(15, doc="number of bins of equal width, >= 1")

    def problem(self) -> str | None:
        """Refuse a number of bins below 1."""
        return None if self.bins >= 1 else f"bins must be at least 1, got {self.bins}"

    def values(self, outputs: Predictions) -> Tensor:
        """(N, 2) float64: confidence, and 1 for a right prediction, 0 for a wrong one."""
        import torch

        from pruningbench_transfer.calibration import confidences

        return torch.from_numpy(confidences(outputs.scores.double().softmax(dim=1), outputs.labels))

    def aggregate(self, values: Floats) -> float:
        """Return the expected calibration error of (N, 2) pairs."""
        from pruningbench_transfer.calibration import reliability_of

        return reliability_of(values, self.bins).error

    def aggregate_each(self, values: Floats, picks: NDArray[np.int64]) -> Floats:
        """Return the expected calibration errors of picks of (N, 2) pairs, with the bits of `aggregate`."""
        from pruningbench_transfer.calibration import errors_of_picks

        return errors_of_picks(values, picks, self.bins)


@dataclass(frozen=True)
class NegativeLogLikelihood(OfProbabilities):
    """Cross-entropy of the true class, ``-ln p``; lower is better. NaN probabilities are undefined."""

    unit = "nats"
    range = (0.0, float("inf"))

    def values(self, outputs: Predictions) -> Tensor:
        """(N,) float64 >= 0."""
        labels = outputs.labels.to(outputs.scores.device)
        logs = outputs.scores.double().log_softmax(dim=1)
        return -logs.gather(1, labels[:, None])[:, 0]


@dataclass(frozen=True)
class BrierScore(OfProbabilities):
    """Squared distance of the probabilities from the truth, ``sum_c (p_c - [c = y])^2``; lower is better.

    NaN probabilities are undefined. Source: Brier, Verification of forecasts expressed in terms of probability
    (1950).
    """

    range = (0.0, 2.0)

    def values(self, outputs: Predictions) -> Tensor:
        """(N,) float64 in [0, 2]."""
        from torch.nn.functional import one_hot

        probabilities = outputs.scores.double().softmax(dim=1)
        truth = one_hot(outputs.labels.to(probabilities.device), probabilities.shape[1])
        return (probabilities - truth).square().sum(dim=1)


@dataclass(frozen=True)
class LinearCka(Metric):
    """Linear centred kernel alignment with the dense model, 1 = equal up to rotation; higher is more similar.

    Per-sample values are the alignment plus each image's influence on it, see
    `pruningbench_transfer.similarity.cka_values`; their mean is the alignment. Images without finite features are
    undefined; all images are undefined if the features are constant. Source: Kornblith et al. (ICML 2019).
    """

    consumes = Features
    range = (0.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether there are features of the dense model."""
        return isinstance(outputs, Features) and outputs.dense is not None

    def values(self, outputs: Features) -> Tensor:
        """(N,) float64."""
        from pruningbench_transfer.similarity import cka_values

        assert outputs.dense is not None  # noqa: S101 - `applies` saw to it
        return cka_values(outputs.features, outputs.dense.to(outputs.features.device))


@dataclass(frozen=True)
class NeuronSimilarity(Metric):
    """Mean correlation over images of each neuron with itself in the dense model; higher is more similar.

    See `pruningbench_transfer.similarity.neuron_values`: a dead neuron counts 0. It applies if both models have the
    same number of neurons. Images without finite features are undefined.
    """

    consumes = Features
    range = (-1.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether there are features of the dense model, with the same number of neurons."""
        if not isinstance(outputs, Features) or outputs.dense is None:
            return False
        return outputs.features.shape == outputs.dense.shape

    def values(self, outputs: Features) -> Tensor:
        """(N,) float64."""
        from pruningbench_transfer.similarity import neuron_values

        assert outputs.dense is not None  # noqa: S101 - `applies` saw to it
        return neuron_values(outputs.features, outputs.dense.to(outputs.features.device))
