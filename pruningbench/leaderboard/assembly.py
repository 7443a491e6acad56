"""The rows of a board: measurements averaged over seeds, compared with the dense model, and ranked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pruningbench.contract.reporting import BoardColumn, Measurement
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.collapse import at_chance, collapsed, degenerate, main_columns
from pruningbench.leaderboard.columns import value_of
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.headings import known
from pruningbench.leaderboard.measurements import Line, Measurements, column_key, row_key
from pruningbench.leaderboard.provenance import mark_of, trust_of
from pruningbench.leaderboard.ranking import best_of, mean_ranks
from pruningbench.leaderboard.references import References, as_loaded
from pruningbench.leaderboard.rows import Column, ColumnKey, Row, RowKey


def differences_of(kept: Measurements, pairs: Pairs, references: References) -> dict[RowKey, dict[ColumnKey, Entry]]:
    """Compare each pruned model with its dense reference of the same seed, and average over seeds."""
    if not pairs.available:
        return {}
    dense = {(m["model"], m["recipe"], m["seed"], *column_key(m)): m for m in kept if float(m["sparsity"]) == 0}
    found: dict[RowKey, dict[ColumnKey, list[tuple[Measurement, Measurement]]]] = {}
    for m in kept:
        recipe = references.of(m["model"], m["recipe"])
        reference = dense.get((m["model"], recipe, m["seed"], *column_key(m)))
        if float(m["sparsity"]) > 0 and reference is not None:
            found.setdefault(row_key(m), {}).setdefault(column_key(m), []).append((m, reference))
    return {
        row: {key: entry for key, seeds in of_row.items() if (entry := pairs.over_seeds(seeds)) is not None}
        for row, of_row in found.items()
    }


def rows_of(
    kept: Measurements,
    columns: Sequence[Column],
    differences: Mapping[RowKey, Mapping[ColumnKey, Entry]],
    pairs: Pairs,
    references: References,
    asked: Mapping[str, BoardColumn],
) -> tuple[Row, ...]:
    """Average the measurements of each row and rank the rows of a model and sparsity.

    Args:
        kept: the measured values.
        columns: the columns of the board.
        differences: differences to the dense model, from `differences_of`.
        pairs: gives the values of samples, for intervals over several seeds.
        references: the dense rows.
        asked: further columns for each row, by name.

    Raises:
        PluginError: if one of the further columns fails.
    """
    by_row: dict[RowKey, list[Line]] = {}
    for place, key in zip(kept.places, kept.tuples("model", "pruner", "recipe", "sparsity"), strict=True):
        by_row.setdefault((key[0], key[1], key[2], float(key[3])), []).append(Line(kept.columns, place))
    main = main_columns(kept, columns)
    unranked = [
        replace(
            _row(key, listed, columns, main, pairs),
            differences=differences.get(key, {}),
            reference=references.of(key[0], key[2]) if key[3] else "",
            extra={name: value_of(name, column, listed) for name, column in asked.items()},
            marked=any(map(mark_of, listed)),
            trust=trust_of(listed),
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


def _row(
    key: RowKey, measurements: Sequence[Line], columns: Sequence[Column], main: Sequence[ColumnKey], pairs: Pairs
) -> Row:
    by_column: dict[ColumnKey, list[Line]] = {}
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
        cells={column.key: pairs.mean(by_column[column.key]) for column in columns if column.key in by_column},
        by_seed={
            key: {int(m["seed"]): (float(m["value"]), (m["ci_high"] - m["ci_low"]) / 2) for m in listed}
            for key, listed in by_column.items()
        },
        at_chance=low,
        collapsed=collapsed(by_column, main, low),
        degenerate=degenerate(measurements),
        ties=max((share for m in measurements if not math.isnan(share := known(m.get("ties")))), default=math.nan),
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
