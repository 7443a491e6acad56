"""Boards: results averaged over seeds and ranked, apart for each state of the data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pruningbench.leaderboard.aggregation import Entry, average
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.partition import Group, Measurement, column_key, partition
from pruningbench.leaderboard.ranking import best_of, mean_ranks
from pruningbench.leaderboard.statements import statements

if TYPE_CHECKING:
    import os

    import pandas as pd

ColumnKey = tuple[str, str, str]
"""Task, variant and metric."""
RowKey = tuple[str, str, str, float]
"""Model, pruner, recipe and sparsity."""


@dataclass(frozen=True)
class Column:
    """One metric of one variant of a task.

    Attributes:
        task, variant, metric: names; the variant is "" for a task that has only one.
        header: shortest name that no other column of the board has.
        higher_is_better: direction; None when neither end is better, and the column is not ranked.
        unit: of the values; "" for a pure number.
        range: smallest and largest defined value on the board; NaN when there is none.
        data_fingerprint: of the data that every value of this column was measured on.
        ceiling: what people reach on the same samples; NaN if unknown.
    """

    task: str
    variant: str
    metric: str
    header: str
    higher_is_better: bool | None
    unit: str
    range: tuple[float, float]
    data_fingerprint: str
    ceiling: float = math.nan

    @property
    def key(self) -> ColumnKey:
        """What identifies the column on its board."""
        return (self.task, self.variant, self.metric)

    @property
    def arrow(self) -> str:
        """The better direction: an arrow up or down, or ""."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    def verdict(self, difference: Entry | None) -> Literal["better", "worse", ""]:
        """Say whether a difference to the dense model is one: its interval excludes zero; "" if not."""
        if difference is None or self.higher_is_better is None:
            return ""
        if difference.low > 0:
            return "better" if self.higher_is_better else "worse"
        if difference.high < 0:
            return "worse" if self.higher_is_better else "better"
        return ""


@dataclass(frozen=True)
class Row:
    """One pruned (or dense) model, averaged over seeds.

    Attributes:
        model, pruner, recipe: labels.
        sparsity: target, in [0, 1); 0 is the dense model.
        sparsity_achieved: measured over the prunable weights, mean over seeds; NaN if unknown.
        seeds: all seeds that have a value in this row, ascending.
        rank: this row's place (1 = best) among the rows of the same model and sparsity, mean over the tasks and
            within a task over its ranked columns; None for the dense model and for a row without ranked columns.
        cells: what was measured, by column key; a column that was not measured is absent.
        differences: to the dense model, by column key: the mean over the seeds that both have of the paired
            differences over samples, with the interval of `aggregation.average`; absent where unknown.
    """

    model: str
    pruner: str
    recipe: str
    sparsity: float
    sparsity_achieved: float
    seeds: tuple[int, ...]
    rank: float | None
    cells: Mapping[ColumnKey, Entry]
    differences: Mapping[ColumnKey, Entry] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        """Whether nothing is pruned: such a row is a reference and is not ranked."""
        return self.sparsity == 0


@dataclass(frozen=True)
class Failure:
    """A task that gave no values on a cell.

    Attributes:
        run, model, pruner, recipe, sparsity, seed, task: where.
        status: failed, skipped, crashed, timeout or oom.
        error: last line of the error.
    """

    run: str
    model: str
    pruner: str
    recipe: str
    sparsity: float
    seed: int
    task: str
    status: str
    error: str


@dataclass(frozen=True)
class Board:
    """Results that may be compared with each other: each column was measured on the same data.

    Attributes:
        title: names of the suites, and how the data differ when there are several boards.
        suites: names of the suites, in the order given.
        columns: by task, variant and metric, each as first seen in the results.
        rows: by model as first seen, then sparsity, mean rank and label.
        failed: tasks that gave no values, as the results list them.
        notes: sentences about what the reader should know (measurements left out).
        statements: sentences about what the results say, see `pruningbench.leaderboard.statements`.
    """

    title: str
    suites: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    failed: tuple[Failure, ...]
    notes: tuple[str, ...]
    statements: tuple[str, ...] = ()


def build(frame: pd.DataFrame, runs: Sequence[str | os.PathLike[str]] = ()) -> list[Board]:
    """Turn a table of results (`pruningbench.leaderboard.results.load_results`) into boards.

    Runs on which a (task, variant, metric) was measured on different data, or whose models of one name
    were made differently (another scope, other training data), are never ranked together: they go to
    boards of their own. Of measurements of the same (model, pruner, recipe, sparsity, seed,
    task, variant, metric) on the same data, the one given last counts, and a note says so.

    Args:
        frame: one row a measurement or a failed task, in the order of the runs.
        runs: the folders of the runs in it: their per-sample values give the differences to the dense model
            and the statements, which are left out without them.

    Returns:
        Boards in the order in which their data first appear; none for an empty table.
    """
    groups = partition(frame.to_dict("records"))
    pairs = Pairs(runs)
    return [_board(group, groups, pairs) for group in groups]


def _board(group: Group, groups: Sequence[Group], pairs: Pairs) -> Board:
    kept, repeated = _without_repeats(group.measurements)
    suites = tuple(dict.fromkeys(str(m["suite"]) for m in group.measurements))
    columns = _columns(group, kept)
    rows = _rows(kept, columns, _differences(kept, pairs))
    return Board(
        title=_title(suites, group, groups),
        suites=suites,
        columns=columns,
        rows=rows,
        failed=_failures(group.measurements),
        notes=_notes(rows, repeated),
        statements=statements(kept, pairs),
    )


def _title(suites: Sequence[str], group: Group, groups: Sequence[Group]) -> str:
    """Name the suites; of several boards also the runs, and the fingerprint of each task whose data differ."""
    seen: dict[str, set[str]] = {}
    for other in groups:
        for (task, _, _), fingerprint in other.fingerprints.items():
            seen.setdefault(task, set()).add(fingerprint)
    own = {task: fingerprint for (task, _, _), fingerprint in group.fingerprints.items()}
    differing = [f"{task} {own[task][:12] or 'unknown'}" for task in seen if task in own and len(seen[task]) > 1]
    title = " + ".join(suites)
    if len(groups) > 1 and not differing:
        title += f" · {', '.join(dict.fromkeys(str(m['run']) for m in group.measurements))}"
    return f"{title} (data of {', '.join(differing)})" if differing else title


def _measured(measurement: Measurement) -> bool:
    return measurement["status"] == "ok" and bool(measurement["metric"])


def _row_key(measurement: Measurement) -> RowKey:
    m = measurement
    return (m["model"], m["pruner"], m["recipe"], float(m["sparsity"]))


def _without_repeats(measurements: Sequence[Measurement]) -> tuple[list[Measurement], int]:
    """Keep of equal measurements the one given last, in the place of the first; count the others."""
    kept: dict[tuple[Any, ...], Measurement] = {}
    repeated = 0
    for measurement in filter(_measured, measurements):
        key = (*_row_key(measurement), int(measurement["seed"]), *column_key(measurement))
        repeated += key in kept
        kept[key] = measurement
    return list(kept.values()), repeated


def _columns(group: Group, kept: Sequence[Measurement]) -> tuple[Column, ...]:
    first: dict[ColumnKey, Measurement] = {}
    values: dict[ColumnKey, list[float]] = {}
    for measurement in kept:
        key = column_key(measurement)
        first.setdefault(key, measurement)
        if not math.isnan(measurement["value"]):
            values.setdefault(key, []).append(float(measurement["value"]))
    # a task that failed on the first cell still keeps its place
    tasks = {task: i for i, task in enumerate(dict.fromkeys(m["task"] for m in group.measurements))}
    variants = {pair: i for i, pair in enumerate(dict.fromkeys(key[:2] for key in first))}
    keys = sorted(first, key=lambda key: (tasks[key[0]], variants[key[:2]]))
    headers = short_headers(keys)
    return tuple(
        Column(
            *key,
            header=headers[key],
            higher_is_better=_direction(first[key]["higher_is_better"]),
            unit=str(first[key]["unit"] or ""),
            range=(min(values[key]), max(values[key])) if key in values else (math.nan, math.nan),
            data_fingerprint=group.fingerprints[key],
            ceiling=float(first[key].get("ceiling", math.nan)),
        )
        for key in keys
    )


def _direction(value: Any) -> bool | None:
    """Read a direction: tables put together turn None into NaN."""
    undefined = value is None or (isinstance(value, float) and math.isnan(value))
    return None if undefined else bool(value)


def short_headers(keys: Sequence[ColumnKey]) -> dict[ColumnKey, str]:
    """Return the metric's name where it is unique, else with the variant or task, else with both."""

    def candidates(key: ColumnKey) -> list[str]:
        task, variant, metric = key
        return [metric, f"{variant or task} {metric}", " ".join(filter(None, key))]

    counts = Counter(name for key in keys for name in set(candidates(key)))
    return {
        key: next((name for name in candidates(key) if counts[name] == 1), " ".join(filter(None, key))) for key in keys
    }


def _differences(kept: Sequence[Measurement], pairs: Pairs) -> dict[RowKey, dict[ColumnKey, Entry]]:
    """Compare each pruned model with the dense one of the same seed, and average over the seeds."""
    dense = {(m["model"], m["seed"], *column_key(m)): m for m in kept if float(m["sparsity"]) == 0}
    found: dict[RowKey, dict[ColumnKey, list[Mapping[str, float]]]] = {}
    for m in kept:
        reference = dense.get((m["model"], m["seed"], *column_key(m)))
        if float(m["sparsity"]) > 0 and reference is not None:
            difference = pairs.difference(m, reference)
            if difference is not None:
                found.setdefault(_row_key(m), {}).setdefault(column_key(m), []).append(difference)
    return {row: {key: average(seeds) for key, seeds in of_row.items()} for row, of_row in found.items()}


def _rows(
    kept: Sequence[Measurement], columns: Sequence[Column], differences: Mapping[RowKey, Mapping[ColumnKey, Entry]]
) -> tuple[Row, ...]:
    by_row: dict[RowKey, list[Measurement]] = {}
    for measurement in kept:
        by_row.setdefault(_row_key(measurement), []).append(measurement)
    unranked = [_row(key, listed, columns, differences.get(key, {})) for key, listed in by_row.items()]
    models = {model: i for i, model in enumerate(dict.fromkeys(row.model for row in unranked))}
    contests: dict[tuple[str, float], list[Row]] = {}
    for row in unranked:
        contests.setdefault((row.model, row.sparsity), []).append(row)
    rows = [row for contest in contests.values() for row in _ranked(contest, columns)]
    rows.sort(key=lambda r: (models[r.model], r.sparsity, r.rank is None, r.rank or 0.0, r.pruner, r.recipe))
    return tuple(rows)


def _row(
    key: RowKey,
    measurements: Sequence[Measurement],
    columns: Sequence[Column],
    differences: Mapping[ColumnKey, Entry],
) -> Row:
    by_column: dict[ColumnKey, list[Measurement]] = {}
    for measurement in measurements:
        by_column.setdefault(column_key(measurement), []).append(measurement)
    achieved = {
        m["seed"]: float(m["sparsity_achieved"]) for m in measurements if not math.isnan(m["sparsity_achieved"])
    }
    model, pruner, recipe, sparsity = key
    return Row(
        model=model,
        pruner=pruner,
        recipe=recipe,
        sparsity=sparsity,
        sparsity_achieved=math.fsum(achieved.values()) / len(achieved) if achieved else math.nan,
        seeds=tuple(sorted({int(m["seed"]) for m in measurements})),
        rank=None,
        cells={column.key: average(by_column[column.key]) for column in columns if column.key in by_column},
        differences=differences,
    )


def _ranked(contest: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """Rank the rows of one model and sparsity and mark the best values; leave the dense model alone."""
    from dataclasses import replace

    if contest[0].dense:
        return list(contest)
    directed = [column for column in columns if column.higher_is_better is not None]
    table = [{c.key: row.cells[c.key].value for c in directed if c.key in row.cells} for row in contest]
    directions = {c.key: bool(c.higher_is_better) for c in directed}
    ranks = mean_ranks(table, directions, lambda key: key[0])
    best = best_of(table, directions)
    return [
        replace(
            row,
            rank=rank,
            cells={key: replace(entry, best=key in marked) for key, entry in row.cells.items()},
        )
        for row, rank, marked in zip(contest, ranks, best, strict=True)
    ]


def _failures(measurements: Sequence[Measurement]) -> tuple[Failure, ...]:
    """List the tasks that failed and were not measured by a run given later (or before)."""
    failed: dict[tuple[Any, ...], Failure] = {}
    succeeded = set()
    for m in measurements:
        key = (*_row_key(m), int(m["seed"]), m["task"])
        if m["status"] == "ok":
            succeeded.add(key)
            continue
        lines = str(m["error"] or "").strip().splitlines()
        failed[key] = Failure(
            run=str(m["run"]), model=m["model"], pruner=m["pruner"], recipe=m["recipe"],
            sparsity=float(m["sparsity"]), seed=int(m["seed"]), task=m["task"], status=m["status"],
            error=lines[-1].strip() if lines else "",
        )  # fmt: skip
    return tuple(failure for key, failure in failed.items() if key not in succeeded)


def _notes(rows: Sequence[Row], repeated: int) -> tuple[str, ...]:
    notes = []
    if repeated:
        was = "measurement was" if repeated == 1 else "measurements were"
        notes.append(f"{repeated} {was} there more than once, on the same data: the run given last counts.")
    partial = sum(0 < entry.seeds < len(row.seeds) for row in rows for entry in row.cells.values())
    if partial:
        values = "value is a mean" if partial == 1 else "values are means"
        notes.append(f"{partial} {values} over fewer seeds than the row has: undefined or not measured on the others.")
    return tuple(notes)
