"""Columns that describe a whole row, shown on request."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pruningbench.contract.reporting import BoardColumn, Measurement, percent
from pruningbench.errors import PluginError
from pruningbench.plugins import Registry


def achieved(measurements: Sequence[Measurement]) -> str | None:
    """Sparsity achieved over the prunable weights, mean over seeds."""
    by_seed = {m["seed"]: float(m["sparsity_achieved"]) for m in measurements}
    known = [value for value in by_seed.values() if not math.isnan(value)]
    return percent(math.fsum(known) / len(known)) if known else None


def seconds(measurements: Sequence[Measurement]) -> float | None:
    """Seconds of all tasks of the row, mean over seeds, without pruning and training."""
    runs = {(m["seed"], m["task"], m["run"]): float(m["seconds"]) for m in measurements}
    return round(math.fsum(runs.values()) / len({seed for seed, _, _ in runs}), 1) if runs else None


def load_columns(registry: Registry, names: Sequence[str]) -> dict[str, BoardColumn]:
    """Return the columns with these names.

    Raises:
        UnknownComponentError: for a name that is not registered.
        PluginError: for a column that cannot be imported.
    """
    return {name: registry.entry("column", name).load() for name in names}


def value_of(name: str, column: BoardColumn, measurements: Sequence[Measurement]) -> float | str | None:
    """Return the value of a column for a row.

    Raises:
        PluginError: if the column fails, or returns something other than a number, text or None.
    """
    try:
        value = column(measurements)
    except Exception as error:  # third-party column
        raise PluginError(f"column {name!r} failed: {type(error).__name__}: {error}") from error
    if value is not None and not isinstance(value, (str, int, float)):
        raise PluginError(f"column {name!r} gave a {type(value).__name__}, not a number, text or None")
    return value
