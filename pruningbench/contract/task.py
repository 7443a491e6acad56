"""Tasks run a pruned model on a data set; metrics turn what they yield into per-sample values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pruningbench.contract.component import Component, Kind
from pruningbench.contract.outputs import Curve, Outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pruningbench.contract.context import Context
    from pruningbench.contract.statistics import Floats
    from pruningbench.contract.vision import VisionModel

ACCURACY = "accuracy"
"""Dimension of tasks whose main metric is the accuracy of a model. Where a statement requires that accuracy is kept, it
means the main metric of every task of this dimension, whoever registered the task."""


@dataclass(frozen=True)
class Task(Component, ABC):
    """Runs a model on data and yields typed outputs.

    Attributes:
        dimension: the ability that the task measures, in kebab-case; "" for an ability of its own, which then has the
            task's registered name. Ranks and sweet spots are stated for each dimension. The built-in tasks use
            ``accuracy`` (the network's own predictions; see `ACCURACY`), ``calibration``, ``robustness``,
            ``transfer``, ``interpretability``, ``discovery``, ``alignment`` (agreement with people), ``similarity``
            (to the dense model) and ``efficiency``; use one of these names where it fits.
        metrics: names of the metrics applied if the suite asks for no others. The first is the main metric: if it
            is not significantly above its chance level, the network has collapsed; see `Metric.chance`.
        main_data: name of the field (a `DatasetRef`) whose fingerprint appears in the results.
    """

    kind: ClassVar[Kind] = "task"
    dimension: ClassVar[str] = ""
    metrics: ClassVar[tuple[str, ...]] = ()
    main_data: ClassVar[str] = "data"

    @abstractmethod
    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        """Yield (variant, outputs) pairs; variant is "" for a task that has only one.

        A part that cannot be measured is yielded as `Missing`. An exception ends the task; the outputs yielded
        before it remain valid.

        The model is in eval mode and must not be changed.
        """


def dimension_of(task: Task | type[Task], name: str) -> str:
    """Return the dimension of a task that is registered as `name`, with or without its distribution."""
    return str(task.dimension) or name.rpartition("/")[2]


@dataclass(frozen=True)
class Metric(Component, ABC):
    """Per-sample values of one type of outputs.

    Attributes:
        consumes: the type of outputs it applies to.
        higher_is_better: direction; None when neither end is better.
        unit: what a value of 1 means (``fraction``, ``nats``, ``pixels``; "" for a pure number).
        range: smallest and largest possible value.
        deterministic: False for timings and the like, which differ from run to run; all other metrics
            give the same bits each time on the same device.
        rerun_tolerance: largest deviation of a value that a re-run on another machine may show, as a share of the
            width of `range` where that is finite, else of the larger absolute value; 0 for values that must be equal.
            Other processors and library versions round sums differently, and training amplifies the difference, so
            the default is one twentieth. Values that are not `deterministic` are not compared.
        joint: whether the value or the chance level of a sample depends on the other samples of the outputs; a task
            then yields all samples at once, whatever memory that takes. What `aggregate` does is no reason.
    """

    kind: ClassVar[Kind] = "metric"
    consumes: ClassVar[type[Outputs]]
    higher_is_better: ClassVar[bool | None] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    deterministic: ClassVar[bool] = True
    rerun_tolerance: ClassVar[float] = 0.05
    joint: ClassVar[bool] = False

    @abstractmethod
    def values(self, outputs: Any) -> Tensor:
        """Return (N,) float values, or (N, K) for a metric with its own `aggregate`.

        NaN marks a sample on which the metric is undefined; it is counted, never averaged.
        """

    def curve(self, outputs: Any) -> Curve | None:
        """Return, for figures, the curve that each sample's value summarises; None if there is none."""
        return None

    def applies(self, outputs: Outputs) -> bool:
        """Whether `outputs` has what this metric needs (for example object masks)."""
        return isinstance(outputs, self.consumes)

    def ceiling(self, outputs: Any) -> float | None:
        """Return the value that people reach on the same samples, for a line in the figures; None if unknown."""
        return None

    def chance(self, outputs: Any) -> Tensor | None:
        """Return the values of the best answer that ignores the input, computed from the data: the chance level.

        Examples are always predicting the most common class, or a box around the whole image. None if a chance
        level has no meaning.

        Returns:
            what `values` would return for such answers on the same samples, or None.
        """
        return None

    def aggregate(self, values: Floats) -> float:
        """Turn the defined values, (n,) or (n, K), into one number; the mean by default."""
        from pruningbench.contract.statistics import mean

        return mean(values)

    def aggregate_each(self, values: Floats, picks: NDArray[np.int64]) -> Floats:
        """Return ``aggregate(values[pick])`` for each of many resamples: intervals are computed from a thousand.

        Override it only where all at once is faster; the bits have to be the same.

        Args:
            values: the defined values, (n,) or (n, K); not to be changed.
            picks: (R, m) indices of rows of `values`.

        Returns:
            (R,) float64.
        """
        import numpy as np

        return np.array([self.aggregate(values[pick]) for pick in picks], dtype=np.float64)
