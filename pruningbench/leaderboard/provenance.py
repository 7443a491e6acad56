"""What tables say about the origin of their values: marks of single rows, and parts that differ between rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pruningbench.contract.precision import FULL
from pruningbench.contract.reporting import Measurement
from pruningbench.leaderboard.measurements import Measurements

SIGN = "‡"
"""Sign beside a row that a sentence of `marks_sentences` refers to."""
_OWNERS = {
    "weights": "model", "preprocessing": "model", "libraries": "model", "model": "model", "data": "model",
    "pruner": "pruner", "recipe": "recipe", "task": "task",
}  # fmt: skip
_SAME = ("status", "model", "pruner", "recipe", "sparsity", "seed", "task", "variant", "metric")
_CODE = ("model", "pruner", "recipe", "task")


def mark_of(measurement: Measurement) -> str:
    """Return what a reader should know about a measurement, or ""."""
    return _mark(measurement.get("mark", ""))


def trust_of(measurements: Iterable[Measurement]) -> str:
    """Return what was checked of the submissions that measurements come from, each word once; "" for run folders."""
    words = dict.fromkeys(_mark(measurement.get("trust", "")) for measurement in measurements)
    return "; ".join(filter(None, words))


def _mark(mark: object) -> str:
    return mark if isinstance(mark, str) else ""  # concatenated tables may hold NaN


def without_repeats(measurements: Measurements) -> tuple[Measurements, int]:
    """Keep one of each set of repeated values, at the place of the first, and count the others; drop failed tasks.

    The one without a mark is kept, else the last one.
    """
    marks = measurements.columns.get("mark", ())
    kept: dict[tuple[Any, ...], int] = {}
    repeated = 0
    for place, (status, *key) in zip(measurements.places, measurements.tuples(*_SAME), strict=True):
        if status != "ok" or not key[-1]:
            continue
        same = tuple(key)
        earlier = kept.setdefault(same, place)
        if earlier != place:
            repeated += 1
            if not marks or not _mark(marks[place]) or _mark(marks[earlier]):
                kept[same] = place
    return measurements.at(list(kept.values())), repeated


def told_apart(measurements: Measurements) -> Measurements:
    """Return measurements without the mark for unchecked rows if all of them have it.

    A folder of an older version then looks as it always did; the sign only serves to distinguish such rows from others.
    """
    if all(_mark(mark).startswith("unchecked") for mark in measurements.column("mark")):
        return measurements.replaced("mark", "")
    return measurements


def notes(measurements: Measurements) -> list[str]:
    """Return sentences about rehearsals, precision, submissions, marked rows, and parts that differ between rows."""
    marks = marks_sentences(measurements.column("mark"))
    return [
        *_limits(measurements),
        *_precisions(measurements),
        *_submissions(measurements),
        *marks,
        *_parts(measurements),
    ]


def _submissions(measurements: Measurements) -> list[str]:
    """Return one sentence that says for each submission what was checked."""
    pairs = dict.fromkeys(zip(measurements.column("run"), measurements.column("trust", ""), strict=True))
    words = [f"{run} {_mark(trust)}" for run, trust in pairs if _mark(trust)]
    return [f"Submissions: {', '.join(words)} (docs/submitting.md says what that means)."] if words else []


def _limits(measurements: Measurements) -> list[str]:
    limits = sorted({int(limit or 0) for limit in set(measurements.column("limit", 0))} - {0})
    return [f"A rehearsal: limited to {', '.join(map(str, limits))} samples of each data set."] if limits else []


def precision_of(parts: object) -> str:
    """Return the precision of the forward passes of a measurement made from these parts."""
    return str(parts.get("precision", FULL)) if isinstance(parts, Mapping) else FULL


def _precisions(measurements: Measurements) -> list[str]:
    made_of = measurements.columns.get("made_of", ())
    found = sorted({precision_of(made_of[place]) for place in measurements.places} if made_of else {FULL})
    if found == [FULL]:
        return []
    return [f"Precision of the forward passes: {' and '.join(found)}."]


def marks_sentences(marks: Iterable[object]) -> list[str]:
    """Return one sentence for each kind of mark, with the number of values that have it."""
    counts = Counter(mark for mark in map(_mark, marks) if mark)
    return [f"{SIGN} {count} {'value' if count == 1 else 'values'}: {mark}." for mark, count in counts.items()]


def _parts(measurements: Measurements) -> list[str]:
    """Return one sentence for each component that has the same name but was not the same in all rows."""
    owners = {part: measurements.columns[owner] for part, owner in _OWNERS.items()}
    metrics, made_of = measurements.columns["metric"], measurements.columns.get("made_of", ())
    seen: dict[tuple[str, str, str], None] = {}
    for place in measurements.places if made_of else ():
        parts = made_of[place]
        for part, text in (parts if isinstance(parts, Mapping) else {}).items():
            if part in owners:
                seen[part, owners[part][place], text] = None
            elif part.startswith("metric ") and part == f"metric {metrics[place]}":
                seen["metric", metrics[place], text] = None
    texts: dict[tuple[str, str], dict[str, None]] = {}
    for part, owner, text in seen:
        texts.setdefault((part, str(owner)), {})[str(text)] = None
    return [
        f"Not the same in all rows: {'code' if part in (*_CODE, 'metric') else part} of "
        f"{_OWNERS.get(part, part)} {owner} ({' and '.join(different)})."
        for (part, owner), different in texts.items()
        if len(different) > 1
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
