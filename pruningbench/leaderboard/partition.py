"""Groups results that may be compared: measured on the same data, with models made in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pruningbench.contract.reporting import Measurement


@dataclass
class Group:
    """Rows that agree on the data of each (task, variant, metric), and on how each model was made.

    Attributes:
        fingerprints: the data of each (task, variant, metric) measured so far.
        cells: the key of the cell behind each (model, pruner, recipe, sparsity, seed); two keys with the same
            names differ in something that no table shows, such as the scope or the training data.
        measurements: the rows, in the given order.
    """

    fingerprints: dict[tuple[str, str, str], str] = field(default_factory=dict)
    cells: dict[tuple[Any, ...], str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)

    def fits(self, other: Group) -> bool:
        """Whether this group and `other` agree on the data of each column and on how each model was made."""
        return all(self.fingerprints.get(key, own) == own for key, own in other.fingerprints.items()) and all(
            self.cells.get(name, key) == key for name, key in other.cells.items()
        )

    def add(self, other: Group) -> None:
        """Add the rows of a group that fits."""
        self.fingerprints |= other.fingerprints
        self.cells |= other.cells
        self.measurements += other.measurements


def column_key(measurement: Measurement) -> tuple[str, str, str]:
    """Return (task, variant, metric)."""
    return (measurement["task"], measurement["variant"], measurement["metric"])


def partition(measurements: Iterable[Measurement]) -> list[Group]:
    """Split rows into groups that agree on their data; a run that agrees with itself stays in one piece.

    A run that was resumed after its data changed does not agree with itself: its cells are split, and each joins the
    first group that it fits. Runs are then combined in the same way.
    """
    runs: dict[tuple[str, str], list[Group]] = {}
    current: dict[tuple[str, str, str], Group] = {}
    for measurement in measurements:
        run = (measurement["suite"], measurement["run"])
        row = Group(_fingerprint(measurement), _cell(measurement), [measurement])
        cell = current.get((*run, measurement["cell"]))
        if cell is None or not cell.fits(row):
            cell = current[(*run, measurement["cell"])] = Group()
            runs.setdefault(run, []).append(cell)
        cell.add(row)
    return _gather(group for cells in runs.values() for group in _gather(cells))


def _fingerprint(measurement: Measurement) -> dict[tuple[str, str, str], str]:
    if measurement["status"] != "ok" or not measurement["metric"]:
        return {}  # a failure was not measured on any data, so it fits any group
    return {column_key(measurement): str(measurement["data_fingerprint"] or "")}


def _cell(measurement: Measurement) -> dict[tuple[Any, ...], str]:
    m = measurement
    return {(m["model"], m["pruner"], m["recipe"], float(m["sparsity"]), int(m["seed"])): str(m["cell"])}


def _gather(groups: Iterable[Group]) -> list[Group]:
    gathered: list[Group] = []
    for group in groups:
        for earlier in gathered:
            if earlier.fits(group):
                earlier.add(group)
                break
        else:
            copy = Group()
            copy.add(group)
            gathered.append(copy)
    return gathered
