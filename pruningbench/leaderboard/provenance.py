"""What tables say about the origin of their values: marks of single rows, and parts that differ between rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pruningbench.contract.reporting import Measurement

SIGN = "‡"
"""Sign beside a row that a sentence of `marks_sentences` refers to."""
_OWNERS = {
    "weights": "model", "preprocessing": "model", "libraries": "model", "model": "model", "data": "model",
    "pruner": "pruner", "recipe": "recipe", "task": "task",
}  # fmt: skip
_CODE = ("model", "pruner", "recipe", "task")


def mark_of(measurement: Measurement) -> str:
    """Return what a reader should know about a measurement, or ""."""
    mark = measurement.get("mark", "")
    return mark if isinstance(mark, str) else ""


def sounder(one: Measurement, other: Measurement) -> Measurement:
    """Return which of two repeated measurements a table shows: the one without a mark, else the last one."""
    return one if mark_of(other) and not mark_of(one) else other


def told_apart(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return measurements without the mark for unchecked rows if all of them have it.

    A folder of an older version then looks as it always did; the sign only serves to distinguish such rows from others.
    """
    if all(mark_of(m).startswith("unchecked") for m in measurements):
        return [{**m, "mark": ""} for m in measurements]
    return [dict(m) for m in measurements]


def notes(measurements: Sequence[Measurement]) -> list[str]:
    """Return sentences about rehearsals, marked rows, and parts that were not the same for all rows."""
    return [*_limits(measurements), *marks_sentences(measurements), *_parts(measurements)]


def _limits(measurements: Iterable[Measurement]) -> list[str]:
    limits = sorted({int(m.get("limit") or 0) for m in measurements} - {0})
    return [f"A rehearsal: limited to {', '.join(map(str, limits))} samples of each data set."] if limits else []


def marks_sentences(measurements: Iterable[Measurement]) -> list[str]:
    """Return one sentence for each kind of mark, with the number of values that have it."""
    counts = Counter(mark for m in measurements if (mark := mark_of(m)))
    return [f"{SIGN} {count} {'value' if count == 1 else 'values'}: {mark}." for mark, count in counts.items()]


def _parts(measurements: Sequence[Measurement]) -> list[str]:
    """Return one sentence for each component that has the same name but was not the same in all rows."""
    seen: dict[tuple[str, str], dict[str, None]] = {}
    for measurement in measurements:
        made_of = measurement.get("made_of")
        for part, text in (made_of if isinstance(made_of, Mapping) else {}).items():
            if part in _OWNERS:
                seen.setdefault((part, str(measurement[_OWNERS[part]])), {})[str(text)] = None
            elif part.startswith("metric ") and part == f"metric {measurement['metric']}":
                seen.setdefault(("metric", str(measurement["metric"])), {})[str(text)] = None
    return [
        f"Not the same in all rows: {'code' if part in (*_CODE, 'metric') else part} of "
        f"{_OWNERS.get(part, part)} {owner} ({' and '.join(texts)})."
        for (part, owner), texts in seen.items()
        if len(texts) > 1
    ]


def parts_of(measurement: Measurement) -> Mapping[str, str]:
    """Return the parts that a measurement was made from; empty if they are unknown."""
    made_of = measurement.get("made_of")
    return made_of if isinstance(made_of, Mapping) else {}


def part_name(part: str, measurement: Measurement) -> str:
    """Name a part for people: ``code of pruner magnitude``, ``weights of model net``, ``data of task transfer``."""
    if part.startswith("metric "):
        return f"code of metric {part.removeprefix('metric ')}"
    if part.startswith("task "):
        return f"{part.removeprefix('task ')} of task {measurement['task']}"
    if part == "data":
        return "data for scoring or training"
    owner = _OWNERS.get(part)
    if owner is None:
        return part
    return f"{'code' if part in _CODE else part} of {owner} {measurement[owner]}"


def changed_parts(before: Measurement, after: Measurement) -> tuple[str, ...]:
    """Return the inputs in which two measurements of a metric differ: ``code of pruner a (x -> y)``.

    Code of other metrics and the pruned network, which is an output, are left out.
    """
    old, new = parts_of(before), parts_of(after)
    own = f"metric {after['metric']}"
    return tuple(
        f"{part_name(part, after)} ({old[part]} -> {new[part]})"
        for part in old
        if part in new and old[part] != new[part] and part != "network" and (part[:7] != "metric " or part == own)
    )
