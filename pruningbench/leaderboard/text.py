"""Boards as text for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from pruningbench.base.text import displayable
from pruningbench.contract.pruner import UNDECIDED
from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.labels import compact, elide, wrap
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.leaderboard.provenance import SIGN
from pruningbench.leaderboard.ranking import RANK
from pruningbench.leaderboard.references import compared_with
from pruningbench.leaderboard.rows import Board, Column, Failure, Row

WIDTH = 140
"""Default width of a table, in columns of the terminal."""
NARROWEST, WIDEST = 5, 12
"""Smallest and largest width, in characters, that the header of a metric is cut to."""
BAR = "|"
SIGNS = {"better": "▲", "worse": "▼", "": " "}
UNDECIDED_MARK = " ≈"
"""Marks rows whose pruning was not decided by scores."""
CHANCE = "†"
"""Marks values that are not significantly above chance."""


@dataclass(frozen=True)
class _Field:
    """A column of the printed table: its header lines, its cells by row, and the metric that it shows."""

    header: list[str]
    cells: list[str]
    align: str
    column: Column | None = None


def table(board: Board, width: int | None = None) -> str:
    """Return a board as plain text: one block per model, one line per row, metrics grouped by task.

    Headers are shortened and intervals left out until the table is at most `width` (default `WIDTH`)
    characters wide; columns that still do not fit continue in further tables below.
    """
    width = width or WIDTH
    head = displayable(board.title)
    if not board.rows:
        return f"{head}: no results. {failed_sentence(board)}"
    pages, intervals = _pages(board, width)
    lines = [head, "", *pages, *_legend(board, width, intervals=intervals)]
    return "\n".join(line.rstrip() for line in lines)


def _pages(board: Board, width: int) -> tuple[list[str], bool]:
    """Return the lines of all tables, and whether they contain intervals."""
    layouts = [(True, 10), (True, 8), *((False, limit) for limit in range(WIDEST, NARROWEST - 1, -1))]
    for intervals, limit in layouts:
        lines = _page(board, board.columns, limit, intervals)
        if len(lines[0]) <= width:
            return lines, intervals

    def fits(columns: Sequence[Column]) -> bool:
        return len(_page(board, columns, NARROWEST + 1, False)[0]) <= width

    pages: list[list[Column]] = []
    for _, group in groupby(board.columns, key=lambda column: column.key[:2]):
        together = list(group)  # a variant's metrics stay on one page if they fit
        for columns in [together] if fits(together) else [[column] for column in together]:
            if pages and fits([*pages[-1], *columns]):
                pages[-1] += columns
            else:
                pages.append(columns)
    return [line for page in pages for line in _page(board, page, NARROWEST + 1, False)], False


def _page(board: Board, columns: Sequence[Column], limit: int, intervals: bool) -> list[str]:
    """Return the lines of a table of these columns, one block per model; the first line has the table's full width."""
    fields = _left(board)
    before: Column | None = None
    for column in columns:
        if _apart(before, column, columns):
            fields.append(_Field([], [BAR] * len(board.rows), "left"))
        fields.append(_metric(board, column, limit, intervals))
        before = column
    return _blocks(board, fields)


def _apart(before: Column | None, column: Column, columns: Sequence[Column]) -> bool:
    """Whether a bar separates two columns: between tasks, and between variants with several metrics."""
    if before is None or before.task != column.task:
        return True
    sizes = [sum(c.key[:2] == which.key[:2] for c in columns) for which in (before, column)]
    return before.variant != column.variant and max(sizes) > 1


def _left(board: Board) -> list[_Field]:
    pruners = compact(row.pruner for row in board.rows)
    recipes = compact((row.recipe for row in board.rows), 20)
    rows = board.rows
    fields = [
        _Field(["spar-", "sity"], [percent(row.sparsity) for row in rows], "right"),
        _Field(
            ["pruner"],
            [pruners[row.pruner] + UNDECIDED_MARK * row.undecided + SIGN * row.marked for row in rows],
            "left",
        ),
        _Field(["recipe"], [recipes[row.recipe] for row in rows], "left"),
    ]
    for name in rows[0].extra:
        fields.append(_Field([name], [_plain(row.extra[name]) for row in rows], "right"))
    if any(row.rank is not None or row.collapsed for row in rows):
        fields.append(_Field(["rank"], [_rank(row) for row in rows], "right"))
    if any(row.degenerate for row in rows):
        counts = [sum(row.degenerate.values()) for row in rows]
        fields.append(_Field(["degen-", "erate"], [str(count or "") for count in counts], "right"))
    return fields


def _signs(row: Row) -> str:
    return UNDECIDED_MARK * row.undecided + SIGN * row.marked


def _rank(row: Row) -> str:
    if row.collapsed:
        return CHANCE
    return "" if row.rank is None else f"{row.rank:.2f}"


def _plain(value: float | str | None) -> str:
    return "-" if value is None else displayable(value) if isinstance(value, str) else f"{value:g}"


def _metric(board: Board, column: Column, limit: int, intervals: bool) -> _Field:
    entries = [row.cells.get(column.key) for row in board.rows]
    decimals = decimals_for(entry.value for entry in entries if entry)
    cells = []
    for entry in entries:
        if entry is None:
            cells.append("-")
            continue
        mark = "*" if entry.best else ""
        known = intervals and math.isfinite(entry.half_width)
        error = f"±{number(entry.half_width, decimals)}" if known else ""
        cells.append(f"{mark}{number(entry.value, decimals)}{error}")
    if any(column.key in row.at_chance for row in board.rows):
        cells = [cell + (CHANCE if column.key in row.at_chance else " ")
                 for cell, row in zip(cells, board.rows, strict=True)]  # fmt: skip
    verdicts = [row.verdicts.get(column.key, "") for row in board.rows]
    if any(verdicts):
        cells = [cell + SIGNS[verdict] for cell, verdict in zip(cells, verdicts, strict=True)]
    header = [*wrap(column.metric, limit), column.arrow]
    return _Field([line for line in header if line], cells, "right", column)


def _blocks(board: Board, fields: Sequence[_Field]) -> list[str]:
    lines, spans = _aligned(fields)
    header = _header(fields, spans)
    full = spans[-1][1]
    blocks: list[str] = []
    for model, of_model in groupby(enumerate(board.rows), key=lambda pair: pair[1].model):
        heading = elide(" ".join(model.split()), full - 4)
        blocks += [f"{heading} {'─' * (full - len(heading) - 1)}", *header]
        for _, group in groupby(of_model, key=lambda pair: pair[1].sparsity):
            blocks += ["┄" * full, *(lines[i] for i, _ in group)]
        blocks.append("")
    return blocks


def _aligned(fields: Sequence[_Field]) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the lines of all rows, aligned, and where each field starts and ends."""
    from tabulate import DataRow, TableFormat, tabulate

    separator = "\x1f"
    plain = TableFormat(
        lineabove=None, linebelowheader=None, linebetweenrows=None, linebelow=None,
        headerrow=DataRow("", separator, ""), datarow=DataRow("", separator, ""), padding=0, with_header_hide=None,
    )  # fmt: skip
    widest = [max([*field.header, "."], key=len) for field in fields]
    rows = [widest, *zip(*(field.cells for field in fields), strict=True)]
    text = tabulate(rows, tablefmt=plain, disable_numparse=True, colalign=[field.align for field in fields])
    first, *lines = text.split("\n")
    spans, start = [], 0
    for piece in first.split(separator):
        spans.append((start, start + len(piece)))
        start += len(piece) + 1
    return [line.replace(separator, " ") for line in lines], spans


def _header(fields: Sequence[_Field], spans: Sequence[tuple[int, int]]) -> list[str]:
    """Return the header: task and variant across their columns, then each metric, with its arrow last."""
    height = max(len(field.header) for field in fields)
    canvas = [[" "] * spans[-1][1] for _ in range(height)]
    for field, (start, end) in zip(fields, spans, strict=True):
        pieces = [BAR] * height if field.cells[0] == BAR else field.header
        for line, piece in zip(canvas[height - len(pieces) :], pieces, strict=True):
            _put(line, piece, start if field.align == "left" else end - len(piece))
    lines = [*_across(fields, spans, 1), *_across(fields, spans, 2), *map("".join, canvas)]
    return [line for line in lines if line.strip(f" {BAR}")]


def _across(fields: Sequence[_Field], spans: Sequence[tuple[int, int]], depth: int) -> list[str]:
    """Return lines with the names of tasks (depth 1) or variants (depth 2) above their columns."""
    lines = [[" "] * spans[-1][1] for _ in range(3)]
    for field, (start, _) in zip(fields, spans, strict=True):
        if field.cells[0] == BAR:
            for line in lines:
                _put(line, BAR, start)
    shown = [(field.column, span) for field, span in zip(fields, spans, strict=True) if field.column]
    for key, group in groupby(shown, key=lambda pair: pair[0].key[:depth]):
        where = [span for _, span in group]
        start, width = where[0][0], where[-1][1] - where[0][0]
        pieces = wrap(key[-1], width)
        for i, line in enumerate(lines):
            missing = len(lines) - len(pieces)
            _put(line, (pieces[i - missing] if i >= missing else "").center(width), start)
    return ["".join(line) for line in lines]


def _put(line: list[str], text: str, start: int) -> None:
    line[start : start + len(text)] = text


def _legend(board: Board, width: int, *, intervals: bool) -> list[str]:
    """Explain the signs that the table uses, and spell out its columns."""
    signs = []
    if any(column.arrow for column in board.columns):
        signs.append("↑ higher is better, ↓ lower is better")
    if any(row.rank is not None for row in board.rows):
        signs.append(f"rank: {RANK}")
    entries = [entry for row in board.rows for entry in row.cells.values()]
    if any(entry.best for entry in entries):
        signs.append("* best of these rows")
    if intervals:
        signs.append("±: half the 95 % interval")
    signs += [*chance_signs(board), *ties_signs(board)]
    if any(row.degenerate for row in board.rows):
        signs.append(DEGENERATE)
    if any(row.verdicts for row in board.rows):
        signs.append(
            f"▲ ▼ better, worse than {compared_with(r.reference for r in board.rows if r.differences)}: {CORRECTED}"
        )
    if any(math.isnan(entry.value) for entry in entries):
        signs.append("nan: undefined on all samples")
    if any(len(row.cells) < len(board.columns) for row in board.rows):
        signs.append("-: not measured")
    seeds = {len(row.seeds) for row in board.rows}
    if max(seeds) > 1:
        signs.append(f"values are means over {min(seeds)} to {max(seeds)} seeds" if len(seeds) > 1
                     else f"values are means over {max(seeds)} seeds")  # fmt: skip
    lines = [f"{'; '.join(signs)}."] if signs else []
    lines.append("Columns: " + _spelt_out(board.columns))
    lines += board.notes
    if board.failed:
        lines.append(failed_sentence(board))
    lines += board.statements
    shown = map(displayable, lines)
    return [wrapped for line in shown for wrapped in textwrap.wrap(line, width, break_on_hyphens=False)]


CORRECTED = "paired test, p <= .05 by Holm's method over all marks of a model"
DEGENERATE = (
    "degenerate: samples whose output says nothing about them (one class or one box for nearly all, nothing found, "
    "a constant map)"
)


def chance_signs(board: Board) -> list[str]:
    """Explain the mark for values at chance, with the chance level of each column that has it."""
    columns = [c for c in board.columns if any(c.key in row.at_chance for row in board.rows)]
    if not columns:
        return []
    levels = ", ".join(f"{' '.join(filter(None, c.key))} {number(c.chance, decimals_for([c.chance]))}" for c in columns)
    signs = [f"{CHANCE} not significantly above chance ({levels}), last in its task"]
    if any(row.collapsed for row in board.rows):
        signs.append(f"{CHANCE} in place of the rank: collapsed, its main metric is at chance; not ranked")
    return signs


def ties_signs(board: Board) -> list[str]:
    """Explain the mark of undecided scores."""
    shares = [row.ties for row in board.rows if row.undecided]
    if not shares:
        return []
    most = percent(float(f"{max(shares):.2g}"))
    return [f"≈ undecided scores: ties made more than {percent(UNDECIDED)} of the pruning decision, up to {most}"]


def _spelt_out(columns: Sequence[Column]) -> str:
    """Return ``task: metric, metric; task (variant): metric``, with the unit at the end if all columns share it."""
    units = {column.unit for column in columns}
    parts = []
    for (task, variant), group in groupby(columns, key=lambda column: column.key[:2]):
        metrics = ", ".join(f"{c.metric} [{c.unit}]" if c.unit and len(units) > 1 else c.metric for c in group)
        parts.append(f"{task} ({variant}): {metrics}" if variant else f"{task}: {metrics}")
    same = f" [all: {columns[0].unit}]" if len(units) == 1 and columns[0].unit else ""
    return "; ".join(parts) + same + "."


def failed_sentence(board: Board) -> str:
    """Return a sentence that says how many tasks gave no values, and why."""
    counts = ", ".join(f"{count} {status}" for status, count in Counter(f.status for f in board.failed).items())
    return f"Task runs without values: {counts or 'none'}."


def failures(failed: Sequence[Failure], width: int | None = None) -> str:
    """Return a list of failed tasks as plain text; "" for none."""
    if not failed:
        return ""
    from tabulate import tabulate

    pruners = compact(failure.pruner for failure in failed)
    rows = [
        [
            displayable(f.model),
            pruners[f.pruner],
            displayable(f.recipe),
            percent(f.sparsity),
            f.seed,
            displayable(f"{f.task} {f.part}".strip()),
            f.status,
        ]
        for f in failed
    ]
    headers = ["model", "pruner", "recipe", "sparsity", "seed", "task", "status"]
    room = width or WIDTH
    for header, *cells in zip(headers, *rows, strict=True):
        room -= max(len(header) + 2, *(len(str(cell)) for cell in cells)) + 2  # tabulate widens headers by two
    room = max(room, 30)
    for row, failure in zip(rows, failed, strict=True):
        error = displayable(" ".join(failure.error.split()))
        row.append(error if len(error) <= room else f"{error[: room - 1]}…")
    aligned = ["left", "left", "left", "right", "right", "left", "left", "left"]
    return tabulate(rows, headers=[*headers, "error"], tablefmt="simple", disable_numparse=True, colalign=aligned)
