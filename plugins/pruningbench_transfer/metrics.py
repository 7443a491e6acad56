"""Metrics of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.components import Metric, Predictions

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of samples whose class has the highest score; higher is better.

    Equal scores go to the lower class. A sample with a NaN among its scores is wrong, not undefined: a
    collapsed network predicts nothing, and leaving its samples out would hide that.
    """

    consumes = Predictions
    unit = "fraction"
    range = (0.0, 1.0)

    def values(self, outputs: Predictions) -> Tensor:
        """(N,) float64: 1 for a right prediction, 0 for a wrong one or none."""
        scores, labels = outputs.scores, outputs.labels.to(outputs.scores.device)
        right = (scores.argmax(dim=1) == labels) & ~scores.isnan().any(dim=1)
        return right.double()
