"""Compares two sets of results value by value, sample by sample."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pruningbench.base.reading import one_line
from pruningbench.contract.reporting import Measurement
from pruningbench.errors import UsageError, did_you_mean
from pruningbench.leaderboard.aggregation import Entry, average
from pruningbench.leaderboard.changes import Change, Place, Unmatched
from pruningbench.leaderboard.collapse import at_chance, collapsed, main_columns
from pruningbench.leaderboard.conditions import names_in, parse_condition
from pruningbench.leaderboard.contrast import Contrast
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.environments import changed_environment
from pruningbench.leaderboard.inference import LEVEL, holm
from pruningbench.leaderboard.matching import Pair, direction_of, match
from pruningbench.leaderboard.pooling import cautious
from pruningbench.leaderboard.provenance import changed_parts, mark_of, parts_of
from pruningbench.leaderboard.results import RunPath, load_results
from pruningbench.leaderboard.rows import Column, ColumnKey
from pruningbench.store.origins import pinned

Margin = float | Mapping[str, float]
"""A margin for metrics with values in [0, 1], or one for each metric named."""
SHARES = ("fraction", "probability")
"""Units of metrics with values in [0, 1], to which a margin without the name of a metric applies."""
FIELDS = ("model", "pruner", "recipe", "sparsity", "seed", "task", "variant", "metric", "unit")
"""What a condition on values may name."""
_READ = (
    "run", "cell", "model", "pruner", "recipe", "sparsity", "seed", "task", "variant", "metric", "status", "error",
    "value", "ci_low", "ci_high", "n", "unit", "higher_is_better", "data_fingerprint", "limit", "mark", "chance_p",
    "plan", "artifact", "made_of",
)  # fmt: skip
_Row = tuple[str, str, str, float]


def compare(
    before: RunPath | Sequence[RunPath],
    after: RunPath | Sequence[RunPath],
    *,
    margin: Margin | None = None,
    other_weights: bool = False,
    where: str = "",
) -> Contrast:
    """Compare two sets of results: which values are better, worse, new, gone, or not comparable.

    Values are matched by model, pruner, recipe, sparsity, seed, task, variant and metric, and compared sample by
    sample as boards compare rows with their dense model (`differences.Pairs`). All tests together have the level
    `inference.LEVEL` (Holm): under no change, the probability that any value is called better or worse is at most
    that. Values of which no sample differs are not tested: such a test can never reject, so that leaving it out keeps
    the level (R. E. Tarone, A modified Bonferroni method for discrete data, Biometrics 46, 1990). Not comparable are
    values that are stale, or measured on other data, with another limit, on other seeds, requested differently (plan
    key), or of a model whose dense weights differ. A value at chance is never called better, and no value is called
    worse than one at chance.

    Args:
        before: sources as for `load_results`; several are combined.
        after: the same for the later side.
        margin: largest loss that is accepted, in the metric's unit, positive: a number applies to metrics whose unit
            is one of `SHARES`, a mapping to the metrics that it names. A value that is significantly worse counts as
            tolerated if its 95 % interval excludes a loss as large as the margin.
        other_weights: compare models whose dense weights differ as well.
        where: compare only values for which this condition on `FIELDS` holds (`pruningbench.leaderboard.conditions`);
            the correction is then for these only.

    Raises:
        RunFolderError: if a source has no results.
        UsageError: for a margin that is not a positive number, or a condition that is malformed or holds for no value.
    """
    _check_margin(margin)
    before, after = pinned(before), pinned(after)
    old, new = _loaded(before, "before"), _loaded(after, "after")
    sides = _Sides({"before": Pairs(before), "after": Pairs(after)})
    chosen = [_selected(side, where) for side in (old, new)]
    if where and not any(map(_measured, chosen[0] + chosen[1])):
        raise UsageError(f"the condition {one_line(where)} holds for none of the values")
    matches = match(*chosen, other_weights=other_weights)
    blind = {"before": _blind(old), "after": _blind(new)}
    changes: list[Change] = []
    for place, pairs in matches.pairs.items():
        change = _change(place, pairs, sides)
        if isinstance(change, Unmatched):
            matches.incomparable.append(change)
        else:
            changes.append(change)
    decided = [
        change if _where(change) in blind["before"] else _with_margin(change, margin)
        for change in judged(changes, blind)
    ]
    return Contrast(
        _name(before),
        _name(after),
        tuple(decided),
        tuple(matches.new),
        tuple(matches.gone),
        tuple(matches.incomparable),
        margin is not None,
        (*changed_environment(before, after), *_marks(matches.pairs.values()), *_unrepeated(matches.pairs.values())),
    )


class _Sides(Pairs):
    """Pairs measurements of two sides, whose runs may have the same names."""

    def __init__(self, sides: Mapping[str, Pairs]) -> None:
        super().__init__()
        self._sides = sides

    def _stored(self, measurement: Measurement) -> Iterator[dict[str, Any]]:
        yield from self._sides[measurement["side"]]._stored(measurement)

    def lacks(self, measurement: Measurement) -> bool:
        """Whether no per-sample values of a measurement are available."""
        return self._values(measurement) is None and self._draws(measurement)[0] is None


def _name(sources: Sequence[RunPath]) -> str:
    return " + ".join(os.fspath(source) for source in sources)


def _loaded(sources: Sequence[RunPath], side: str) -> list[dict[Any, Any]]:
    frame = load_results(sources, details=True)
    names = [*_READ, "side"]
    columns = [frame[name].tolist() for name in _READ]  # far faster than to_dict, which looks at each value
    return [dict(zip(names, (*values, side), strict=True)) for values in zip(*columns, strict=True)]


def _measured(m: Measurement) -> bool:
    return m["status"] == "ok" and bool(m["metric"])


def _selected(measurements: list[dict[Any, Any]], where: str) -> list[dict[Any, Any]]:
    """Return the values for which a condition holds, and all failures, which say why values are missing."""
    if not where.strip():
        return measurements
    condition = parse_condition(where)
    unknown = next((name for name in names_in(condition) if name not in FIELDS), None)
    if unknown is not None:
        hint = did_you_mean(unknown, FIELDS)
        raise UsageError(f"no value has a field {one_line(unknown)!r}{hint} (fields: {', '.join(FIELDS)})")
    return [m for m in measurements if not _measured(m) or condition(m.__getitem__)]


def _change(place: Place, pairs: Sequence[Pair], sides: _Sides) -> Change | Unmatched:
    """Return the change of a value, or why it is unknown."""
    seeds = tuple(int(mine["seed"]) for mine, _ in pairs)
    after, before = (average([pair[i] for pair in pairs]) for i in (0, 1))
    parts = tuple(dict.fromkeys(part for mine, other in pairs for part in changed_parts(other, mine)))
    first = pairs[0][0]
    same = all(_same(mine, other) for mine, other in pairs)
    if same:
        zero = math.nan if after.seeds == 0 else 0.0
        entry: Entry | None = Entry(zero, zero, zero, after.n, after.seeds, p=1.0)
    else:
        entry = sides.over_seeds(pairs)
    if entry is None:
        return Unmatched(place, seeds, _unpaired(pairs, sides))
    if math.isnan(entry.p):
        return Unmatched(place, seeds, f"too few samples for a test (n = {entry.n})")
    return Change(
        place, seeds, before.value, after.value, entry, direction_of(first),
        str(first["unit"] or ""), same=same, parts=parts,
    )  # fmt: skip


def _same(mine: Measurement, other: Measurement) -> bool:
    """Whether two values are equal and were made from the same network, data and code."""
    values = [(float(m["value"]), int(m["n"])) for m in (mine, other)]
    if math.isnan(values[0][0]) and math.isnan(values[1][0]):
        return True
    networks = [parts_of(m).get("network") for m in (mine, other)]
    keys = [str(m.get("artifact") or "") for m in (mine, other)]
    return values[0] == values[1] and bool(keys[0]) and keys[0] == keys[1] and networks[0] == networks[1] is not None


def _unpaired(pairs: Sequence[Pair], sides: _Sides) -> str:
    for when, i in (("before", 1), ("after", 0)):
        if any(sides.lacks(pair[i]) for pair in pairs):
            return f"no per-sample values {when}: their file is missing or damaged, or does not belong to the value"
    return "measured on other samples: none in common"


def _blind(measurements: Sequence[Measurement]) -> set[tuple[_Row, str]]:
    """Return the rows and tasks whose networks are not better than chance; all tasks of a row that has collapsed."""
    measured = list(filter(_measured, measurements))
    keys = dict.fromkeys(map(_column, measured))
    main = main_columns(measured, [Column(*key, "", None, "", (math.nan, math.nan), "") for key in keys])
    rows: dict[_Row, dict[ColumnKey, list[Measurement]]] = {}
    for m in measured:
        row = (m["model"], m["pruner"], m["recipe"], float(m["sparsity"]))
        rows.setdefault(row, {}).setdefault(_column(m), []).append(m)
    blind: set[tuple[_Row, str]] = set()
    for row, by_column in rows.items():
        low = at_chance(by_column, main)
        tasks = {key[0] for key in (by_column if collapsed(by_column, main, low) else low)}
        blind |= {(row, task) for task in tasks}
    return blind


def _column(m: Measurement) -> ColumnKey:
    return (m["task"], m["variant"], m["metric"])


def judged(changes: Sequence[Change], blind: Mapping[str, set[tuple[_Row, str]]]) -> list[Change]:
    """Return the changes with their verdicts, adjusted for all tests of the comparison."""
    changes = _with_cautious_p(changes)
    tested = [i for i, change in enumerate(changes) if change.higher_is_better is not None and not change.unchanged]
    decided = list(changes)
    for i, p in zip(tested, holm([changes[i].difference.p for i in tested]), strict=True):
        change = replace(changes[i], difference=replace(changes[i].difference, p_holm=p))
        better = (change.difference.value > 0) == change.higher_is_better
        if p <= LEVEL and _where(change) not in blind["after" if better else "before"]:
            change = replace(change, verdict="better" if better else "worse")
        decided[i] = change
    return decided


def _with_cautious_p(changes: Sequence[Change]) -> list[Change]:
    """Return the changes with p-values over several seeds that small variances by chance do not lower."""
    keys = {i: change.difference for i, change in enumerate(changes) if change.difference.variances}

    def of_recipe(i: int) -> Place:
        return replace(changes[i].place, sparsity=0.0, pruner="")

    spreads = cautious(keys, (lambda i: replace(changes[i].place, sparsity=0.0), of_recipe))
    return [
        replace(change, difference=replace(change.difference, p=spreads[i].p_value())) if i in spreads else change
        for i, change in enumerate(changes)
    ]


def _where(change: Change) -> tuple[_Row, str]:
    place = change.place
    return (place.model, place.pruner, place.recipe, place.sparsity), place.task


def _check_margin(margin: Margin | None) -> None:
    numbers = margin.values() if isinstance(margin, Mapping) else [] if margin is None else [margin]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
            raise UsageError(f"a margin must be a positive number in the metric's unit, got {number!r}")


def _with_margin(change: Change, margin: Margin | None) -> Change:
    """Return a change with `within_margin`, if it has a direction and a margin applies to it."""
    if isinstance(margin, Mapping):
        accepted = margin.get(change.place.metric)
    else:
        accepted = margin if change.unit in SHARES else None
    if accepted is None or change.higher_is_better is None or math.isnan(change.before):
        return change
    entry = change.difference
    within = entry.low > -accepted if change.higher_is_better else entry.high < accepted
    return replace(change, within_margin=within)


def _marks(groups: Iterable[Sequence[Pair]]) -> Iterator[str]:
    """Yield a sentence for each kind of mark on compared values."""
    counts: dict[str, int] = {}
    for pairs in groups:
        for pair in pairs:
            for when, m in zip(("after", "before"), pair, strict=True):
                if mark_of(m):
                    counts[f"{when}: {mark_of(m)}"] = counts.get(f"{when}: {mark_of(m)}", 0) + 1
    for text, count in counts.items():
        yield f"{count} compared {'value' if count == 1 else 'values'} {text}"


def _unrepeated(groups: Iterable[Sequence[Pair]]) -> Iterator[str]:
    """Yield a sentence if networks differ although nothing that they were made from does."""
    count = 0
    for pairs in groups:
        for mine, other in pairs:
            keys = [m.get("artifact") for m in (mine, other)]
            networks = [parts_of(m).get("network") for m in (mine, other)]
            count += bool(keys[0] and keys[0] == keys[1] and all(networks) and networks[0] != networks[1])
    if count:
        values = "value was" if count == 1 else "values were"
        yield f"{count} {values} measured on other networks made from the same parts: the work does not repeat exactly"
