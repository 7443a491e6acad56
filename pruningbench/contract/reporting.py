"""What a plugin adds to reports: columns and statements of a leaderboard, figures, drawings of exhibits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pruningbench.contract.findings import Interval, SweetSpot

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

Measurement = Mapping[Any, Any]
"""A row of the results table: column -> value."""

BoardColumn = Callable[[Sequence[Measurement]], "float | str | None"]
"""Returns what a column shows for one row of a board: maps all measurements of the row (model, pruner, recipe and
sparsity; all seeds, tasks and metrics) to a number, a text, or None for an empty cell."""


class Comparison(Protocol):
    """What a statement can ask about the results on one board, all of which are comparable.

    Attributes:
        measurements: the measured values, without duplicates.
        sweet_spots: each directed metric of each model, pruner and recipe, compared with dense at all its sparsities.
    """

    @property
    def measurements(self) -> Sequence[Measurement]:
        """The measured values, without duplicates."""
        ...

    @property
    def sweet_spots(self) -> Sequence[SweetSpot]:
        """Each metric with a direction of each model, pruner and recipe, compared with dense at all its sparsities."""
        ...

    def reference(self, model: str, recipe: str) -> str:
        """Return the recipe of the dense row that rows of `model` and `recipe` are compared with; "" for none."""
        ...

    def as_loaded(self, recipe: str) -> bool:
        """Whether a recipe trains nothing, so that its dense row is the model as loaded."""
        ...

    def difference(self, measurement: Measurement, reference: Measurement) -> Mapping[str, float] | None:
        """Return ``value ci_low ci_high n`` of measurement minus reference, paired over samples; None if unknown."""
        ...

    def average(self, seeds: Sequence[Mapping[str, Any]]) -> Interval:
        """Average values or differences with ``value ci_low ci_high n``, one per seed."""
        ...

    def short(self, labels: Iterable[str]) -> Mapping[str, str]:
        """Shorten labels of pruners and recipes for a sentence; different ones stay different."""
        ...


Statement = Callable[[Comparison], Iterable[str]]
"""Returns sentences, each with a full stop, about what the results of a board mean; none if there is nothing to say."""


@dataclass(frozen=True)
class ShownSample:
    """One sample of an exhibit.

    Attributes:
        image: (C, H, W) in [0, 1].
        caption: "" if there is none.
        map: (H, W), for kind ``maps``.
        predicted, truth: (K, 4) boxes in pixels, for kind ``boxes``.
        arrays: by name, this sample's row of each further array of the exhibit.
    """

    image: Array
    caption: str
    map: Array | None = None
    predicted: Array | None = None
    truth: Array | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownExhibit:
    """What was kept from a task on one cell: samples by key, in order."""

    model: str
    pruner: str
    recipe: str
    sparsity: float
    kind: str
    samples: dict[str, ShownSample]


Drawing = tuple[Sequence[str], Callable[[], "Figure"]]
"""The parts of a figure's name, and the function that draws the figure."""

ExhibitDrawer = Callable[[Sequence[str], Sequence[ShownExhibit]], Iterator[Drawing]]
"""Draws exhibits of one kind: maps (task, variant, model) and the exhibits of the model's cells to figures."""


@dataclass(frozen=True)
class ReportedRun:
    """A run to draw.

    Attributes:
        folder: the run folder.
        results: its measurements, see `pruningbench.load_results`.
    """

    folder: Path
    results: pd.DataFrame


FigureDrawer = Callable[[ReportedRun], Iterator[Drawing]]
"""Draws figures of a whole run."""


def percent(sparsity: float) -> str:
    """Write a sparsity in percent: ``90%``, ``99.5%``."""
    return f"{100 * sparsity:.6g}%"
