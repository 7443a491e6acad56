"""Matches the measurements of two sets of results, and says why some of them are not comparable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pruningbench.base.text import last_line
from pruningbench.contract.reporting import Measurement
from pruningbench.leaderboard.changes import Place, Unmatched
from pruningbench.leaderboard.provenance import mark_of, part_name, parts_of, precision_of

Pair = tuple[Measurement, Measurement]
"""The later and the earlier measurement."""
_STALE = "stale"


@dataclass
class Matches:
    """Measurements of two sides by place.

    Attributes:
        pairs: comparable measurements, one pair per seed.
        new, gone, incomparable: the others, see `contrast.Contrast`.
    """

    pairs: dict[Place, list[Pair]] = field(default_factory=dict)
    new: list[Unmatched] = field(default_factory=list)
    gone: list[Unmatched] = field(default_factory=list)
    incomparable: list[Unmatched] = field(default_factory=list)


def match(before: Sequence[Measurement], after: Sequence[Measurement], *, other_weights: bool = False) -> Matches:
    """Match measurements that have the same model, pruner, recipe, sparsity, seed, task, variant and metric.

    Args:
        before: rows of `load_results(..., details=True)`, failed tasks included.
        after: the same for the later side.
        other_weights: also match measurements of models whose dense weights differ.
    """
    old, new = _Side(before), _Side(after)
    matches = Matches()
    for place in dict.fromkeys([*old.places, *new.places]):
        mine, other = new.places.get(place, {}), old.places.get(place, {})
        common = sorted(mine.keys() & other.keys())
        if mine and other and not common:
            reason = f"other seeds: {_listed(other)} before, {_listed(mine)} after"
            matches.incomparable.append(Unmatched(place, tuple(sorted(mine.keys() | other.keys())), reason))
            continue
        _match_seeds(matches, place, common, mine, other, other_weights)
        matches.gone += new.lacking(place, other.keys() - mine.keys())
        matches.new += old.lacking(place, mine.keys() - other.keys())
    return matches


def _match_seeds(
    matches: Matches,
    place: Place,
    seeds: Sequence[int],
    mine: Mapping[int, Sequence[Measurement]],
    other: Mapping[int, Sequence[Measurement]],
    other_weights: bool,
) -> None:
    groups: dict[str, list[int]] = {}
    lists = {"incomparable": matches.incomparable, "new": matches.new, "gone": matches.gone}
    for seed in seeds:
        pair, reason = _chosen(mine[seed], other[seed], other_weights)
        if not reason:
            matches.pairs.setdefault(place, []).append(pair)
        else:
            groups.setdefault(reason, []).append(seed)
    for reason, affected in groups.items():
        kind = {UNDEFINED_BEFORE: "new", UNDEFINED_AFTER: "gone"}.get(reason, "incomparable")
        lists[kind].append(Unmatched(place, tuple(affected), reason))


UNDEFINED_BEFORE, UNDEFINED_AFTER = "undefined before", "undefined after: the metric is not defined on any sample"


def _chosen(mine: Sequence[Measurement], other: Sequence[Measurement], other_weights: bool) -> tuple[Pair, str]:
    """Return the comparable pair of repeated measurements with the fewest marks, or one pair and what is wrong."""
    pairs = [(a, b) for a in _soundest_first(mine) for b in _soundest_first(other)]
    obstacles = [obstacle(b, a, other_weights=other_weights) for a, b in pairs]
    best = next((i for i, reason in enumerate(obstacles) if not reason), 0)
    return pairs[best], obstacles[best]


def _soundest_first(repeated: Sequence[Measurement]) -> list[Measurement]:
    last_first = list(reversed(repeated))  # of equals, the last one counts
    return sorted(last_first, key=lambda m: bool(mark_of(m)))


def obstacle(before: Measurement, after: Measurement, *, other_weights: bool = False) -> str:
    """Return why two measurements of the same name are not comparable, or "" if they are."""
    return next(_obstacles(before, after, other_weights), "")


def _obstacles(before: Measurement, after: Measurement, other_weights: bool) -> Iterator[str]:
    for when, m in (("before", before), ("after", after)):
        if mark_of(m).startswith(_STALE):
            yield f"stale {when}: {mark_of(m).removeprefix(_STALE).lstrip(': ')}"
    limits = [int(m.get("limit") or 0) for m in (before, after)]
    if limits[0] != limits[1]:
        old, new = (f"{limit} samples" if limit else "all samples" for limit in limits)
        yield f"other limit: {old} before, {new} after"
    old, new = (precision_of(parts_of(m)) for m in (before, after))
    if old != new:
        yield f"other precision: {old} before, {new} after"
    if before["data_fingerprint"] != after["data_fingerprint"]:
        old, new = (str(m["data_fingerprint"] or "unknown")[:25] for m in (before, after))
        yield f"other data: {old} before, {new} after"
    for what, old, new in (
        ("unit", str(before["unit"] or "none"), str(after["unit"] or "none")),
        ("direction", _WORDS[direction_of(before)], _WORDS[direction_of(after)]),
    ):
        if old != new:
            yield f"other {what} of the metric: {old} before, {new} after"
    if before.get("plan") and after.get("plan") and before["plan"] != after["plan"]:
        yield "requested differently: the scope, the data, or a field that no label shows"
    old, new = (parts_of(m).get("weights", "") for m in (before, after))
    if old and new and old != new and not other_weights:
        yield f"other reference: {part_name('weights', before)} differ ({old} before, {new} after)"
    undefined = [math.isnan(float(m["value"])) for m in (before, after)]
    if undefined[0] and not undefined[1]:
        yield UNDEFINED_BEFORE
    if undefined[1] and not undefined[0]:
        yield UNDEFINED_AFTER


_WORDS = {True: "higher is better", False: "lower is better", None: "none"}


def direction_of(m: Measurement) -> bool | None:
    """Return whether higher values are better; None if neither direction is."""
    direction = m["higher_is_better"]
    return None if direction is None or isinstance(direction, float) else bool(direction)  # NaN in some tables


class _Side:
    """The measurements of one side by place and seed, and its failures."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self.places: dict[Place, dict[int, list[Measurement]]] = {}
        self._failures: dict[tuple[str, str, str, float, int, str], list[Measurement]] = {}
        for m in measurements:
            if m["status"] == "ok" and m["metric"]:
                self.places.setdefault(place_of(m), {}).setdefault(int(m["seed"]), []).append(m)
            elif m["status"] != "ok":
                self._failures.setdefault(_task_of(place_of(m), int(m["seed"])), []).append(m)

    def lacking(self, place: Place, seeds: Iterable[int]) -> Iterator[Unmatched]:
        """Yield what this side lacks at a place, grouped by reason: the failure of its task, or "" if it has none."""
        groups: dict[str, list[int]] = {}
        for seed in sorted(seeds):
            groups.setdefault(self._failure(place, seed), []).append(seed)
        for reason, affected in groups.items():
            yield Unmatched(place, tuple(affected), reason)

    def _failure(self, place: Place, seed: int) -> str:
        for m in self._failures.get(_task_of(place, seed), ()):
            if m["variant"] in ("", place.variant) and m["metric"] in ("", place.metric):
                error = last_line(str(m["error"] or ""))
                return f"{m['status']}: {error}" if error else str(m["status"])
        return ""


def place_of(m: Measurement) -> Place:
    """Return the place of a measurement."""
    names = (m["model"], m["pruner"], m["recipe"], float(m["sparsity"]), m["task"], m["variant"], m["metric"])
    return Place(*names)


def _task_of(place: Place, seed: int) -> tuple[str, str, str, float, int, str]:
    return (place.model, place.pruner, place.recipe, place.sparsity, seed, place.task)


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
