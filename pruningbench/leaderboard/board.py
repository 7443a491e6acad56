"""Boards: results averaged over seeds and ranked, with a separate board for each state of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pruningbench.contract.reporting import BoardColumn
from pruningbench.leaderboard.assembly import differences_of, rows_of
from pruningbench.leaderboard.collapse import note_on_references
from pruningbench.leaderboard.columns import load_columns
from pruningbench.leaderboard.comparison import BoardComparison, statements
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.failing import failures
from pruningbench.leaderboard.headings import columns_of
from pruningbench.leaderboard.labels import split_labels
from pruningbench.leaderboard.measurements import Measurements
from pruningbench.leaderboard.partition import Group, partition
from pruningbench.leaderboard.provenance import notes, told_apart, without_repeats
from pruningbench.leaderboard.references import References
from pruningbench.leaderboard.rows import Board, Column, Row
from pruningbench.leaderboard.verdicts import with_verdicts
from pruningbench.plugins import Registry, load_registry

if TYPE_CHECKING:
    import os

    import pandas as pd


def build(
    frame: pd.DataFrame | Measurements,
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
    measurements = frame if isinstance(frame, Measurements) else Measurements.of(frame)
    groups = partition(measurements)
    pairs = Pairs(runs)
    return [
        _board(title, measurements, group, pairs, registry, asked)
        for title, group in zip(_titles(measurements, groups), groups, strict=True)
    ]


def _board(
    title: str, table: Measurements, group: Group, pairs: Pairs, registry: Registry, asked: Mapping[str, BoardColumn]
) -> Board:
    measurements = table.at(group.places)
    kept, repeated = without_repeats(measurements)
    kept = told_apart(kept)
    columns = columns_of(kept, measurements.column("task"), group.fingerprints, registry)
    references = References(measurements)
    rows = rows_of(kept, columns, differences_of(kept, pairs, references), pairs, references, asked)
    rows = with_verdicts(rows, columns)
    board = Board(
        title=title,
        suites=_suites(measurements),
        columns=columns,
        rows=rows,
        failed=failures(measurements),
        notes=(*_notes(rows, repeated), *_inapplicable(kept, columns), *notes(kept)),
    )
    comparison = BoardComparison(kept, pairs, references, board)
    said, failed = statements(registry, comparison)
    return replace(board, statements=said, notes=(*board.notes, *failed))


def _suites(measurements: Measurements) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, measurements.column("suite"))))


def _differing(groups: Sequence[Group]) -> dict[str, None]:
    """Return the tasks whose data differ between groups, in order."""
    seen: dict[str, set[str]] = {}
    for group in groups:
        for (task, _, _), fingerprint in group.fingerprints.items():
            seen.setdefault(task, set()).add(fingerprint)
    return {task: None for task, fingerprints in seen.items() if len(fingerprints) > 1}


def _titles(measurements: Measurements, groups: Sequence[Group]) -> list[str]:
    """Name the suites of each board; boards of the same suites also name what tells them apart."""
    parts = [measurements.at(group.places) for group in groups]
    plain = [" + ".join(_suites(part)) for part in parts]
    alike = Counter(plain)
    differing = _differing(groups)
    return [
        title if alike[title] == 1 else f"{title} {_distinction(part, group, differing)}"
        for title, part, group in zip(plain, parts, groups, strict=True)
    ]


def _distinction(measurements: Measurements, group: Group, differing: Iterable[str]) -> str:
    """Name the fingerprints of tasks whose data differ between boards, or else the runs."""
    own = {task: fingerprint for (task, _, _), fingerprint in group.fingerprints.items()}
    data = [f"{task} {own[task][:12] or 'unknown'}" for task in differing if task in own]
    if data:
        return f"(data of {', '.join(data)})"
    return f"· {', '.join(dict.fromkeys(map(str, measurements.column('run'))))}"


def _inapplicable(kept: Measurements, columns: Sequence[Column]) -> tuple[str, ...]:
    """Name the requested metrics that have no column because they apply to nothing."""
    measured = {column.metric for column in columns}
    tasks: dict[str, dict[str, None]] = {}
    for text, task in dict.fromkeys(zip(kept.column("inapplicable", ""), kept.column("task"), strict=True)):
        for label in split_labels(text if isinstance(text, str) else ""):  # concatenated tables may hold NaN
            if label not in measured:
                tasks.setdefault(label, {})[task] = None
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
