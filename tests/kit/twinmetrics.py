"""Broken twins of metrics, and a drift for twins of all kinds; `test_testing_kinds.py` holds the others and the tests."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruningbench.contract import (
    Boxes,
    Concepts,
    HumanDecisions,
    Metric,
    Outputs,
    Predictions,
    Responses,
    param,
)
from pruningbench.contract.statistics import Floats

CALLS = itertools.count()


def drift() -> float:
    """Return one of two factors in turn, for components that are not repeatable."""
    return 1 - 0.05 * (next(CALLS) % 2)


@dataclass(frozen=True)
class Certainty(Metric):
    """Probability of the true class."""

    consumes: ClassVar[type[Outputs]] = Predictions
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    defect: str = param("", doc="what is wrong with it")

    def values(self, outputs: Predictions) -> Tensor:
        found = outputs.scores.double().softmax(1).gather(1, outputs.labels[:, None])[:, 0]
        if self.defect == "one number":
            return found.mean()
        if self.defect == "too few":
            return found[1:]
        if self.defect == "percent":
            return 100 * found
        if self.defect == "undefined":
            return found * float("nan")
        if self.defect == "drifts":
            return found * drift()
        if self.defect == "writes":
            outputs.scores.clamp_(max=1)
        if self.defect == "of the batch":
            return found - found.mean() + 0.5
        if self.defect == "the error":
            return 1 - found
        if self.defect == "of the first":
            return (found - found[0]).abs()
        return found


@dataclass(frozen=True)
class Limitless(Certainty):
    """A metric with its range upside down."""

    range: ClassVar[tuple[float, float]] = (1.0, 0.0)


@dataclass(frozen=True)
class Percent(Certainty):
    """A metric with a number as unit."""

    unit: ClassVar[str] = 100  # type: ignore[assignment]


@dataclass(frozen=True)
class Middle(Certainty):
    """A metric whose statistic is the median, of many resamples at once."""

    def aggregate(self, values: Floats) -> float:
        return float(np.median(values))

    def aggregate_each(self, values: Floats, picks: NDArray[np.int64]) -> Floats:
        if self.defect == "the mean":
            return np.asarray(values[picks].mean(axis=1))
        if self.defect == "one too few":
            return np.asarray(np.median(values[picks[1:]], axis=1))
        found = np.asarray(np.median(values[picks], axis=1))
        if self.defect == "sorts":
            values.sort()
            values[0] = 0
        return found


@dataclass(frozen=True)
class Overlap(Metric):
    """Share of images whose box is right."""

    consumes: ClassVar[type[Outputs]] = Boxes
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    defect: str = param("", doc="what is wrong with it")

    def values(self, outputs: Boxes) -> Tensor:
        pairs = zip(outputs.predicted, outputs.truth, strict=True)
        equal = torch.tensor([float(torch.equal(found, true)) for found, true in pairs])
        return 1 - equal if self.defect else equal


@dataclass(frozen=True)
class Popular(Metric):
    """Share of people who decide as the network does."""

    consumes: ClassVar[type[Outputs]] = Responses
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    defect: str = param("", doc="what is wrong with it")

    def applies(self, outputs: Outputs) -> bool:
        return isinstance(outputs, Responses) and isinstance(outputs.human, HumanDecisions)

    def values(self, outputs: Responses) -> Tensor:
        people: Any = outputs.human
        equal = (people.answers == outputs.answers).double().mean(0)
        if self.defect == "the order":  # it takes the people of other images
            equal = (people.answers == outputs.answers.roll(1)).double().mean(0)
        return 1 - equal if self.defect == "the error" else equal


@dataclass(frozen=True)
class Own(Metric):
    """Share of a concept's coefficients that lie in crops of its own class."""

    consumes: ClassVar[type[Outputs]] = Concepts
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    defect: str = param("", doc="what is wrong with it")

    def values(self, outputs: Concepts) -> Tensor:
        own = outputs.crop_classes[:, None] == outputs.classes
        shares = (outputs.coefficients * own).sum(0) / outputs.coefficients.sum(0)
        if self.defect == "writes":
            outputs.coefficients.mul_(own)
        if self.defect == "percent":
            shares = 100 * shares
        return 1 - shares if self.defect == "the error" else shares


METRICS = {
    "one number": {"values", "range", "repeatable", "leaves no trace", "samples", "direction"},  # nothing can run
    "too few": {"values"},
    "percent": {"range"},
    "undefined": {"values"},
    "drifts": {"repeatable", "samples"},  # any two calls differ, those for other samples too
    "writes": {"leaves no trace"},
    "of the batch": {"samples"},
    "of the first": {"samples"},
    "the error": {"direction"},
}
