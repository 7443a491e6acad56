"""What a board says about a metric of a pruned model: where it is better than dense, and up to where it is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["kept", "lost", "open"]
"""Whether a value is shown to be kept, shown to be lost, or neither."""

FRACTION = "fraction"
"""Unit of metrics whose values per sample lie in [0, 1]."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        value: the mean.
        low, high: limits of the interval; NaN if unknown.
        n: number of samples.
        seeds: number of seeds.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int

    def signed(self) -> str:
        """Return the value and its limits with their signs: ``+0.043 [+0.021, +0.065]``."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def widened(value: float, limit: float, n: int) -> float:
    """Return a limit of a difference of shares, moved away from the value by the uncertainty of one more sample.

    If few samples differ, a bootstrap interval of shares is too narrow: with no difference among n samples its width
    is zero, although up to about 3 / n may differ. The variance therefore gets one differing sample more, 1 / n^2.

    Args:
        value: mean of paired differences of values in [0, 1].
        limit: lower or upper limit of its 95 % interval.
        n: number of samples.

    Source: A. Agresti and Y. Min, Simple improved confidence intervals for comparing matched proportions, Statistics in
    Medicine 2005, who add half a sample to each cell of the paired table.
    """
    if not n:
        return math.nan
    return value + math.copysign(math.hypot(limit - value, 1.96 / n), limit - value if limit != value else -1.0)


@dataclass(frozen=True)
class SweetPoint:
    """A metric at one sparsity, compared with the dense reference.

    Attributes:
        sparsity: target, in (0, 1).
        sweet: whether this is a sweet spot: the metric is better than dense after correction, its interval excludes
            zero, and `accuracy` is kept.
        difference: metric minus reference, in the metric's units; None if unknown.
        p_holm: p-value of the difference, adjusted for all tests of the model's table; NaN if it was not tested.
        verdict: ``better`` or ``worse`` than dense at the level .05 of `p_holm`; "" for neither.
        state: of the metric. *kept*: the interval shows that it is not worse than dense by more than the margin.
            *lost*: the interval shows that it is worse by more than the margin, or it is worse than dense after
            correction and not kept, or the network has collapsed.
        accuracy: the same of the model's accuracy, with the margin epsilon.
        accuracy_difference: accuracy minus reference; of several accuracies the one with the lowest limit; None if
            unknown.
        collapsed: whether the network's main metric is at chance.
    """

    sparsity: float
    sweet: bool
    difference: Interval | None
    p_holm: float
    verdict: Literal["better", "worse", ""]
    state: State
    accuracy: State
    accuracy_difference: Interval | None
    collapsed: bool

    @property
    def unproven(self) -> bool:
        """Whether the metric is better than dense, and only the samples are too few to show that accuracy is kept."""
        return not self.sweet and self.verdict == "better" and self.accuracy == "open" and not self.collapsed


@dataclass(frozen=True)
class SweetSpot:
    """A metric of one model, pruner and recipe at all its sparsities: where it beats dense, and up to where it is kept.

    Attributes:
        model, pruner, recipe: labels.
        reference: recipe of the dense row that it is compared with; "" if there is none.
        task, variant, metric: of the column; `dimension`: the ability that the task measures.
        higher_is_better: direction of the metric.
        unit: of the metric.
        epsilon: largest loss of accuracy that counts as none, in the units of accuracy.
        margin: largest loss of the metric that counts as none, in the metric's units; NaN if unknown.
        points: one for each measured sparsity, ascending.
        obstacle: why there can be no sweet spot, whatever the values; "" if there can be.
        words: returns `sentence`.
    """

    model: str
    pruner: str
    recipe: str
    reference: str
    task: str
    variant: str
    metric: str
    dimension: str
    higher_is_better: bool
    unit: str
    epsilon: float
    margin: float
    points: tuple[SweetPoint, ...]
    obstacle: str = ""
    words: Callable[[SweetSpot], str] | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """Task, variant and metric."""
        return (self.task, self.variant, self.metric)

    @property
    def sentence(self) -> str:
        """The result in words, with a full stop; made when it is asked for, because a board has thousands."""
        return self.words(self) if self.words else ""

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The sparsities that are sweet spots, ascending; empty if there are none."""
        return tuple(point.sparsity for point in self.points if point.sweet)

    @property
    def best(self) -> SweetPoint | None:
        """The sweet spot with the largest improvement; None if there is none."""
        sweet = [point for point in self.points if point.sweet and point.difference is not None]
        return max(sweet, key=lambda point: abs(point.difference.value) if point.difference else 0.0, default=None)

    @property
    def kept_up_to(self) -> float:
        """The largest measured sparsity below the first one at which the metric is lost.

        0 if it is lost at the lowest measured sparsity; NaN if nothing is known at any sparsity.
        """
        if not any(point.difference is not None or point.state == "lost" for point in self.points):
            return math.nan
        return max((p.sparsity for p in self.points if p.sparsity < self.lost_at), default=0.0)

    @property
    def shown_up_to(self) -> float:
        """The largest sparsity such that the metric is shown to be kept there and at all lower measured sparsities.

        0 if it is not shown at the lowest one. It is the lower limit of `kept_up_to`.
        """
        shown = 0.0
        for point in self.points:
            if point.state != "kept":
                break
            shown = point.sparsity
        return shown

    @property
    def lost_at(self) -> float:
        """The lowest sparsity at which the metric is lost, infinity if there is none: upper limit of `kept_up_to`."""
        return next((point.sparsity for point in self.points if point.state == "lost"), math.inf)
