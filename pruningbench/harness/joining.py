"""Joins what a metric says about the parts of a task's outputs, as if they had come at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pruningbench.errors import PluginError

if TYPE_CHECKING:
    from pruningbench.contract import Curve, Exhibit, Outputs
    from pruningbench.contract.degeneracy import Degenerate

Array = NDArray[Any]


@dataclass
class Seen:
    """What a metric said about the outputs of a variant so far.

    Attributes:
        values: (n,) or (n, K) values of each part.
        chance: the values at chance of each part; empty if there is no chance level.
        curves: (n, points) values of curves of each part; empty if there is none.
        x, x_label: of the curves.
        ceiling: the value that people reach, or None.
        settings: settings that the task chose.
        random: state of the random generators after the last part, from which the next one goes on.
    """

    values: list[Array] = field(default_factory=list)
    chance: list[Array] = field(default_factory=list)
    curves: list[Array] = field(default_factory=list)
    x: Array = field(default_factory=lambda: np.empty(0))
    x_label: str = ""
    ceiling: float | None = None
    settings: dict[str, str] = field(default_factory=dict)
    random: Any = None

    def add(self, label: str, outputs: Outputs, values: Array, chance: Array | None, ceiling: float | None) -> None:
        """Add a part.

        Raises:
            PluginError: if it does not continue the parts before it.
        """
        if self.values and (chance is not None) != bool(self.chance):
            raise PluginError(f"metric {label!r} has a chance level for some parts of the outputs only")
        if self.values and ceiling != self.ceiling:
            raise PluginError(f"metric {label!r} has other ceilings for other parts of the outputs")
        if self.values and values.shape[1:] != self.values[0].shape[1:]:
            raise PluginError(f"metric {label!r} has values of {values.shape} after some of {self.values[0].shape}")
        self.values.append(values)
        if chance is not None:
            self.chance.append(chance)
        self.ceiling = ceiling
        self.settings = {str(name): str(value) for name, value in outputs.settings.items()}

    def add_curve(self, label: str, curve: Curve, count: int) -> None:
        """Add the curves of a part.

        Raises:
            PluginError: if they do not fit the samples, or the parts before.
        """
        if curve.values.shape != (count, len(curve.x)):
            shape = tuple(curve.values.shape)
            raise PluginError(f"metric {label!r}: a curve of {shape} for {count} samples, {len(curve.x)} points")
        x = np.asarray(curve.x, dtype=np.float64)
        if self.curves and not np.array_equal(x, self.x):
            raise PluginError(f"metric {label!r} has curves over other points for other parts of the outputs")
        self.x, self.x_label = x, curve.x_label
        self.curves.append(curve.values.detach().cpu().float().numpy())


@dataclass
class Variant:
    """The outputs of a variant so far, which may come in parts.

    Attributes:
        part: whether they come in parts.
        metrics: what each metric said, by label.
        failed: labels of the metrics that failed on a part; they have no value for the variant.
        count: number of samples; None if unknown.
        keys: of the samples.
        exhibit: samples for figures: those of the first part that has any.
        degenerate: what is degenerate in all parts; the first reason stands for all.
    """

    part: bool
    metrics: dict[str, Seen] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    count: int | None = 0
    keys: list[str] = field(default_factory=list)
    exhibit: Exhibit | None = None
    degenerate: Degenerate | None = None

    def add(self, outputs: Outputs) -> None:
        """Add what is said about the samples of a part, whatever the metrics."""
        self.count = None if self.count is None or outputs.count is None else self.count + outputs.count
        self.keys += outputs.keys
        self.exhibit = self.exhibit or outputs.exhibit

    def add_degenerate(self, found: Degenerate | None) -> None:
        """Add what is degenerate in a part."""
        if found is not None:
            before = self.degenerate
            self.degenerate = found if before is None else before.joined(found)

    def names(self) -> tuple[str, ...]:
        """Return the keys of the samples; none if they are the first samples of the data set in order.

        Outputs that come at once have no keys then, and a part cannot know what the next ones hold.
        """
        keys = tuple(self.keys)
        return () if self.part and keys == tuple(map(str, range(len(keys)))) else keys
