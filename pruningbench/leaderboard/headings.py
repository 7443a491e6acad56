"""The columns of a board, and the short headers that tell them apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pruningbench.contract.reporting import Measurement
from pruningbench.leaderboard.collapse import main_of_variants
from pruningbench.leaderboard.dimensions import dimensions_of
from pruningbench.leaderboard.measurements import Line, Measurements
from pruningbench.leaderboard.rows import Column, ColumnKey
from pruningbench.plugins import Registry


def columns_of(
    kept: Measurements, tasks: Iterable[str], fingerprints: Mapping[ColumnKey, str], registry: Registry
) -> tuple[Column, ...]:
    """Return the columns of a board, ordered by task, variant and metric as they first appear.

    Args:
        kept: the measured values.
        tasks: all tasks in order, with those that gave no value: a task that failed on the first cell keeps its place.
        fingerprints: the data of each column.
        registry: where the dimensions of tasks are looked up if the results do not state them.
    """
    first: dict[ColumnKey, Measurement] = {}
    values: dict[ColumnKey, list[float]] = {}
    for place, (value, *names) in zip(kept.places, kept.tuples("value", "task", "variant", "metric"), strict=True):
        key = (names[0], names[1], names[2])
        if key not in first:
            first[key] = Line(kept.columns, place)
        if not math.isnan(value):
            values.setdefault(key, []).append(float(value))
    order = {task: i for i, task in enumerate(dict.fromkeys(tasks))}
    variants = {pair: i for i, pair in enumerate(dict.fromkeys(key[:2] for key in first))}
    keys = sorted(first, key=lambda key: (order[key[0]], variants[key[:2]]))
    headers = short_headers(keys)
    dimensions = dimensions_of(((m["task"], m.get("dimension")) for m in first.values()), registry)
    main = main_of_variants(kept, keys)
    return tuple(
        Column(
            *key,
            header=headers[key],
            higher_is_better=_direction(first[key]["higher_is_better"]),
            unit=str(first[key]["unit"] or ""),
            range=(min(values[key]), max(values[key])) if key in values else (math.nan, math.nan),
            data_fingerprint=fingerprints[key],
            ceiling=known(first[key].get("ceiling")),
            chance=known(first[key].get("chance")),
            dimension=dimensions[key[0]],
            main=key in main,
        )
        for key in keys
    )


def known(value: Any) -> float:
    """Return a number, or always the same NaN object, so that equal boards compare equal."""
    return math.nan if value is None or math.isnan(value) else float(value)


def _direction(value: Any) -> bool | None:
    """Read a direction; concatenated tables may hold NaN instead of None."""
    undefined = value is None or (isinstance(value, float) and math.isnan(value))
    return None if undefined else bool(value)


def short_headers(keys: Sequence[ColumnKey]) -> dict[ColumnKey, str]:
    """Return the metric's name if it is unique, else with the variant or task, else with both."""

    def candidates(key: ColumnKey) -> list[str]:
        task, variant, metric = key
        return [metric, f"{variant or task} {metric}", " ".join(filter(None, key))]

    counts = Counter(name for key in keys for name in set(candidates(key)))
    return {
        key: next((name for name in candidates(key) if counts[name] == 1), " ".join(filter(None, key))) for key in keys
    }
