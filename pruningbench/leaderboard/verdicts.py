"""Which rows are better or worse than their dense reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pruningbench.leaderboard.rows import Column, Row, Verdict


def with_verdicts(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """Return the rows with their verdicts: a difference whose interval excludes zero is one.

    Nothing is said where the dense reference itself is at chance, and nothing at chance is called better.
    """
    dense = {(row.model, row.recipe): row for row in rows if row.dense}
    judged = []
    for row in rows:
        reference = dense.get((row.model, row.reference))
        verdicts: dict[tuple[str, str, str], Verdict] = {}
        for column in columns:
            verdict = None if reference is None else _verdict(row, reference, column)
            if verdict is not None:
                verdicts[column.key] = verdict
        judged.append(replace(row, verdicts=verdicts))
    return tuple(judged)


def _verdict(row: Row, reference: Row, column: Column) -> Verdict | None:
    difference = row.differences.get(column.key)
    if difference is None or column.higher_is_better is None or _blind(reference, column):
        return None
    if difference.low > 0:
        better = column.higher_is_better
    elif difference.high < 0:
        better = not column.higher_is_better
    else:
        return None
    if not better:
        return "worse"
    return None if _blind(row, column) else "better"


def _blind(row: Row, column: Column) -> bool:
    """Whether a row sees nothing: at all, or in the task of a column."""
    return row.collapsed or column.task in {key[0] for key in row.at_chance}
