"""Boards: results averaged over seeds and ranked, with a separate board for each state of the data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pruningbench.contract.reporting import BoardColumn, Measurement
from pruningbench.leaderboard.aggregation import Entry, average
from pruningbench.leaderboard.collapse import (
    at_chance,
    collapsed,
    degenerate,
    main_columns,
    main_of_variants,
    note_on_references,
)
from pruningbench.leaderboard.columns import load_columns, value_of
from pruningbench.leaderboard.comparison import BoardComparison, statements
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.dimensions import dimensions_of
from pruningbench.leaderboard.partition import Group, column_key, partition
from pruningbench.leaderboard.provenance import mark_of, notes, sounder, told_apart
from pruningbench.leaderboard.ranking import best_of, mean_ranks
from pruningbench.leaderboard.references import References, as_loaded
from pruningbench.leaderboard.rows import Board, Column, ColumnKey, Failure, Row, RowKey
from pruningbench.leaderboard.verdicts import with_verdicts
from pruningbench.plugins import Registry, load_registry

if TYPE_CHECKING:
    import os

    import pandas as pd


def build(
    frame: pd.DataFrame,
    runs: Sequence[str | os.PathLike[str]] = (),
    *,
    columns: Sequence[str] = (),
    registry: Registry | None = None,
) -> list[Board]:
    """Turn a table of results (`pruningbench.leaderboard.results.load_results`) into boards.

    Runs that measured a (task, variant, metric) on different data, or whose models of the same name
    were made differently (another scope, other training data), are never ranked together: each goes to a
    board of its own. If several measurements of the same (model, pruner, recipe, sparsity, seed,
    task, variant, metric) on the same data exist, the last one counts, unless it is marked (stale, accepted)
    and another is not; a note says so.

    Args:
        frame: one row per measurement or failed task, in the order of the runs.
        runs: the folders of the runs in `frame`. Their per-sample values give the differences to the dense model
            and the statements; both are left out without them.
        columns: names of registered columns to add to the rows.
        registry: where columns and statements are looked up; the installed plugins by default.

    Returns:
        Boards in the order in which their data first appear; an empty list for an empty table.

    Raises:
        UnknownComponentError: for a column that is not registered.
        PluginError: for a column that fails.
    """
    registry = registry or load_registry()
    asked = load_columns(registry, columns)
    groups = partition(frame.to_dict("records"))
    pairs = Pairs(runs)
    return [_board(group, groups, pairs, registry, asked) for group in groups]


def _board(
    group: Group, groups: Sequence[Group], pairs: Pairs, registry: Registry, asked: Mapping[str, BoardColumn]
) -> Board:
    kept, repeated = _without_repeats(group.measurements)
    kept = told_apart(kept)
    suites = tuple(dict.fromkeys(str(m["suite"]) for m in group.measurements))
    columns = _columns(group, kept, registry)
    references = References(group.measurements)
    rows = _rows(kept, columns, _differences(kept, pairs, references), references, asked)
    rows = with_verdicts(rows, columns)
    board = Board(
        title=_title(suites, group, groups),
        suites=suites,
        columns=columns,
        rows=rows,
        failed=_failures(group.measurements),
        notes=(*_notes(rows, repeated), *_inapplicable(kept, columns), *notes(kept)),
    )
    comparison = BoardComparison(tuple(kept), pairs, references, board)
    said, failed = statements(registry, comparison)
    return replace(board, statements=said, notes=(*board.notes, *failed))


def _title(suites: Sequence[str], group: Group, groups: Sequence[Group]) -> str:
    """Name the suites and, if there are several boards, the fingerprints of tasks whose data differ, or the runs."""
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
    """Keep one of each set of repeated measurements (see `sounder`), at the place of the first; count the others."""
    kept: dict[tuple[Any, ...], Measurement] = {}
    repeated = 0
    for measurement in filter(_measured, measurements):
        key = (*_row_key(measurement), int(measurement["seed"]), *column_key(measurement))
        repeated += key in kept
        kept[key] = sounder(kept[key], measurement) if key in kept else measurement
    return list(kept.values()), repeated


def _columns(group: Group, kept: Sequence[Measurement], registry: Registry) -> tuple[Column, ...]:
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
    dimensions = dimensions_of(((m["task"], m.get("dimension")) for m in first.values()), registry)
    main = main_of_variants(kept, keys)
    return tuple(
        Column(
            *key,
            header=headers[key],
            higher_is_better=_direction(first[key]["higher_is_better"]),
            unit=str(first[key]["unit"] or ""),
            range=(min(values[key]), max(values[key])) if key in values else (math.nan, math.nan),
            data_fingerprint=group.fingerprints[key],
            ceiling=_known(first[key].get("ceiling")),
            chance=_known(first[key].get("chance")),
            dimension=dimensions[key[0]],
            main=key in main,
        )
        for key in keys
    )


def _known(value: Any) -> float:
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


def _differences(
    kept: Sequence[Measurement], pairs: Pairs, references: References
) -> dict[RowKey, dict[ColumnKey, Entry]]:
    """Compare each pruned model with its dense reference of the same seed, and average over seeds."""
    dense = {(m["model"], m["recipe"], m["seed"], *column_key(m)): m for m in kept if float(m["sparsity"]) == 0}
    found: dict[RowKey, dict[ColumnKey, list[tuple[Measurement, Measurement]]]] = {}
    for m in kept:
        recipe = references.of(m["model"], m["recipe"])
        reference = dense.get((m["model"], recipe, m["seed"], *column_key(m)))
        if float(m["sparsity"]) > 0 and reference is not None:
            found.setdefault(_row_key(m), {}).setdefault(column_key(m), []).append((m, reference))
    return {
        row: {key: entry for key, seeds in of_row.items() if (entry := pairs.over_seeds(seeds)) is not None}
        for row, of_row in found.items()
    }


def _rows(
    kept: Sequence[Measurement],
    columns: Sequence[Column],
    differences: Mapping[RowKey, Mapping[ColumnKey, Entry]],
    references: References,
    asked: Mapping[str, BoardColumn],
) -> tuple[Row, ...]:
    by_row: dict[RowKey, list[Measurement]] = {}
    for measurement in kept:
        by_row.setdefault(_row_key(measurement), []).append(measurement)
    main = main_columns(kept, columns)
    unranked = [
        replace(
            _row(key, listed, columns, main),
            differences=differences.get(key, {}),
            reference=references.of(key[0], key[2]) if key[3] else "",
            extra={name: value_of(name, column, listed) for name, column in asked.items()},
            marked=any(map(mark_of, listed)),
        )
        for key, listed in by_row.items()
    ]
    models = {model: i for i, model in enumerate(dict.fromkeys(row.model for row in unranked))}
    contests: dict[tuple[str, float], list[Row]] = {}
    for row in unranked:
        contests.setdefault((row.model, row.sparsity), []).append(row)
    rows = [row for contest in contests.values() for row in _ranked(contest, columns)]
    rows.sort(
        key=lambda r: (
            models[r.model], r.sparsity, r.dense and not as_loaded(r.recipe),
            r.rank is None, r.rank or 0.0, r.pruner, r.recipe,
        )
    )  # fmt: skip
    return tuple(rows)


def _row(key: RowKey, measurements: Sequence[Measurement], columns: Sequence[Column], main: Sequence[ColumnKey]) -> Row:
    by_column: dict[ColumnKey, list[Measurement]] = {}
    for measurement in measurements:
        by_column.setdefault(column_key(measurement), []).append(measurement)
    achieved = {
        m["seed"]: float(m["sparsity_achieved"]) for m in measurements if not math.isnan(m["sparsity_achieved"])
    }
    model, pruner, recipe, sparsity = key
    low = at_chance(by_column, main)
    return Row(
        model=model,
        pruner=pruner,
        recipe=recipe,
        sparsity=sparsity,
        sparsity_achieved=math.fsum(achieved.values()) / len(achieved) if achieved else math.nan,
        seeds=tuple(sorted({int(m["seed"]) for m in measurements})),
        rank=None,
        cells={column.key: average(by_column[column.key]) for column in columns if column.key in by_column},
        by_seed={
            key: {int(m["seed"]): (float(m["value"]), (m["ci_high"] - m["ci_low"]) / 2) for m in listed}
            for key, listed in by_column.items()
        },
        at_chance=low,
        collapsed=collapsed(by_column, main, low),
        degenerate=degenerate(measurements),
        ties=max((share for m in measurements if not math.isnan(share := _known(m.get("ties")))), default=math.nan),
    )


def _ranked(contest: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """Rank the rows of one model and sparsity and mark the best values; leave the dense model unranked.

    A collapsed row is not ranked. A row that is at chance in a task is last in the columns of that task.
    """
    competing = [row for row in contest if not row.collapsed]
    if contest[0].dense or not competing:
        return list(contest)
    directed = [column for column in columns if column.higher_is_better is not None]
    table = [
        {
            c.key: row.cells[c.key].value
            for c in directed
            if c.key in row.cells and c.task not in {key[0] for key in row.at_chance}
        }
        for row in competing
    ]
    directions = {c.key: bool(c.higher_is_better) for c in directed}
    ranks = mean_ranks(table, directions, lambda key: key[0])
    best = best_of(table, directions)
    ranked = [
        replace(
            row,
            rank=rank,
            cells={key: replace(entry, best=key in marked) for key, entry in row.cells.items()},
        )
        for row, rank, marked in zip(competing, ranks, best, strict=True)
    ]
    return [*ranked, *(row for row in contest if row.collapsed)]


def _failures(measurements: Sequence[Measurement]) -> tuple[Failure, ...]:
    """List the tasks, and parts of tasks, that failed and were not measured by any other given run."""
    failed: dict[tuple[Any, ...], Failure] = {}
    succeeded = set()
    partly = {(m["run"], m["cell"], m["task"]) for m in measurements if m["status"] == "ok"}
    for m in measurements:
        whole = (*_row_key(m), int(m["seed"]), m["task"])
        if m["status"] == "ok":
            succeeded |= {whole, (*whole, m["variant"], ""), (*whole, m["variant"], m["metric"])}
            continue
        # if a task gave some values, list each missing part; no other run makes up for the rest that it never reached
        key: tuple[Any, ...] = whole
        if (m["run"], m["cell"], m["task"]) in partly:
            part = (m["variant"], m["metric"])
            key = (*whole, *(part if any(part) else ("rest", m["run"])))
        lines = str(m["error"] or "").strip().splitlines()
        failed[key] = Failure(
            run=str(m["run"]), model=m["model"], pruner=m["pruner"], recipe=m["recipe"],
            sparsity=float(m["sparsity"]), seed=int(m["seed"]), task=m["task"], status=m["status"],
            error=lines[-1].strip() if lines else "", part=" ".join(filter(None, (m["variant"], m["metric"]))),
        )  # fmt: skip
    return tuple(failure for key, failure in failed.items() if key not in succeeded)


def _inapplicable(kept: Sequence[Measurement], columns: Sequence[Column]) -> tuple[str, ...]:
    """Name the requested metrics that have no column because they apply to nothing."""
    measured = {column.metric for column in columns}
    tasks: dict[str, dict[str, None]] = {}
    for m in kept:
        for label in str(m.get("inapplicable") or "").split(", "):
            if label and label not in measured:
                tasks.setdefault(label, {})[m["task"]] = None
    return tuple(f"{label} applies to nothing that {', '.join(of)} yields." for label, of in tasks.items())


def _notes(rows: Sequence[Row], repeated: int) -> tuple[str, ...]:
    notes = []
    if repeated:
        was = "measurement was" if repeated == 1 else "measurements were"
        notes.append(f"{repeated} {was} there more than once, on the same data: the run given last counts.")
    partial = sum(0 < entry.seeds < len(row.seeds) for row in rows for entry in row.cells.values())
    if partial:
        values = "value is a mean" if partial == 1 else "values are means"
        notes.append(f"{partial} {values} over fewer seeds than the row has: undefined or not measured on the others.")
    return (*notes, *note_on_references(rows))
