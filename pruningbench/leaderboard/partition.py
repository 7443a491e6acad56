"""Groups results that may be compared: measured on the same data, with models made in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pruningbench.leaderboard.measurements import Measurements
from pruningbench.leaderboard.rows import ColumnKey


@dataclass
class Group:
    """Rows that agree on the data of each (task, variant, metric), and on how each model was made.

    Attributes:
        fingerprints: the data of each (task, variant, metric) measured so far.
        cells: the key of the cell behind each (model, pruner, recipe, sparsity, seed); two keys with the same
            names differ in something that no table shows, such as the scope or the training data.
        places: the rows, as places in the table, in the given order.
    """

    fingerprints: dict[ColumnKey, str] = field(default_factory=dict)
    cells: dict[tuple[Any, ...], str] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)

    def add(self, other: Group) -> None:
        """Add the rows of a group that agrees with this one."""
        self.fingerprints |= other.fingerprints
        self.cells |= other.cells
        self.places += other.places


def partition(measurements: Measurements) -> list[Group]:
    """Split rows into groups that agree on their data; a run that agrees with itself stays in one piece.

    A run that was resumed after its data changed does not agree with itself: its cells are split, and each joins the
    first group that it fits. Runs are then combined in the same way.
    """
    runs: dict[tuple[str, str], list[Group]] = {}
    current: dict[tuple[str, str, str], Group] = {}
    for place, (suite, run, cell, model, pruner, recipe, sparsity, seed, status, *column, data) in zip(
        measurements.places,
        measurements.tuples(
            "suite", "run", "cell", "model", "pruner", "recipe", "sparsity", "seed", "status",
            "task", "variant", "metric", "data_fingerprint",
        ),
        strict=True,
    ):  # fmt: skip
        name, made = (model, pruner, recipe, float(sparsity), int(seed)), str(cell)
        # a failure was not measured on any data, so it fits any group
        key = (column[0], column[1], column[2]) if status == "ok" and column[2] else None
        fingerprint = str(data or "")
        group = current.get((suite, run, cell))
        if (
            group is None
            or group.cells.get(name, made) != made
            or (key is not None and group.fingerprints.get(key, fingerprint) != fingerprint)
        ):
            group = current[suite, run, cell] = Group()
            runs.setdefault((suite, run), []).append(group)
        group.cells[name] = made
        if key is not None:
            group.fingerprints[key] = fingerprint
        group.places.append(place)
    return _gather(group for cells in runs.values() for group in _gather(cells))


def _gather(groups: Iterable[Group]) -> list[Group]:
    """Add each group to the first gathered one that it agrees with.

    Sets of gathered groups are whole numbers, one bit for each, so that many disagreeing groups take little time.
    """
    gathered: list[Group] = []
    having: dict[Any, int] = {}
    agreeing: dict[tuple[Any, str], int] = {}
    for group in groups:
        facts = [*group.fingerprints.items(), *group.cells.items()]
        disagreeing = 0
        for fact in facts:
            disagreeing |= having.get(fact[0], 0) & ~agreeing.get(fact, 0)
        first = (~disagreeing & (disagreeing + 1)).bit_length() - 1
        if first == len(gathered):
            gathered.append(Group())
        gathered[first].add(group)
        for fact in facts:
            having[fact[0]] = having.get(fact[0], 0) | 1 << first
            agreeing[fact] = agreeing.get(fact, 0) | 1 << first
    return gathered
