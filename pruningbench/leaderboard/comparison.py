"""Sentences from plugins about the results of a board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pruningbench.contract.findings import Interval, SweetSpot
from pruningbench.contract.reporting import Measurement
from pruningbench.leaderboard.aggregation import average
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.labels import compact
from pruningbench.leaderboard.references import References, as_loaded, trains_nothing
from pruningbench.leaderboard.rows import Board
from pruningbench.leaderboard.sweetspots import sweet_spots
from pruningbench.plugins import Registry


@dataclass(frozen=True)
class BoardComparison:
    """The results of a board as statements receive them, see `pruningbench.contract.Comparison`."""

    measurements: Sequence[Measurement]
    pairs: Pairs
    references: References
    board: Board

    @cached_property
    def sweet_spots(self) -> Sequence[SweetSpot]:
        """Each metric with a direction of each model, pruner and recipe, compared with dense at all its sparsities."""
        return sweet_spots(self.board)

    def reference(self, model: str, recipe: str) -> str:
        """Return the recipe of the dense row that rows of `model` and `recipe` are compared with; "" for none."""
        return self.references.of(model, recipe)

    def as_loaded(self, recipe: str) -> bool:
        """Whether a recipe leaves a dense network alone, so that it is compared with the model as loaded."""
        own = any(row.dense and row.recipe == recipe for row in self.board.rows)
        return as_loaded(recipe) or (trains_nothing(recipe) and not own)

    def difference(self, measurement: Measurement, reference: Measurement) -> Mapping[str, float] | None:
        """Return ``value ci_low ci_high n`` of measurement minus reference, paired over samples; None if unknown."""
        return self.pairs.difference(measurement, reference)

    def average(self, seeds: Sequence[Mapping[str, Any]]) -> Interval:
        """Average values or differences with ``value ci_low ci_high n``, one per seed."""
        entry = average(seeds)
        return Interval(entry.value, entry.low, entry.high, entry.n, entry.seeds)

    def short(self, labels: Iterable[str]) -> Mapping[str, str]:
        """Shorten labels for a sentence."""
        return compact(labels)


def statements(registry: Registry, comparison: BoardComparison) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sentences of all plugins, and a note for each plugin whose statement failed."""
    said: list[str] = []
    notes: list[str] = []
    for registration in registry.registrations("statement"):
        try:
            said += [str(sentence) for sentence in registration.load()(comparison)]
        except Exception as error:  # noqa: BLE001 - third-party statement; it must not cost the table
            notes.append(f"The {registration.what} failed: {type(error).__name__}: {error}.")
    return tuple(said), tuple(notes)
