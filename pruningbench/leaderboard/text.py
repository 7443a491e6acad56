"""Boards as text for a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise

from pruningbench.base.text import displayable
from pruningbench.contract.reporting import percent
from pruningbench.leaderboard.labels import compact, elide, numbered, wrap
from pruningbench.leaderboard.layout import BAR, Field, cut_to, header_lines, heading, row_lines, total
from pruningbench.leaderboard.legend import CHANCE, UNDECIDED_MARK, failed_sentence, legend
from pruningbench.leaderboard.listing import WIDTH
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.leaderboard.provenance import SIGN
from pruningbench.leaderboard.rows import Board, Column, Row
from pruningbench.leaderboard.summary import summary_lines

NARROWEST, WIDEST = 5, 12
"""Smallest and largest width, in characters, that the header of a metric is cut to."""
LEFT = ((34, 20, True), (24, 12, True), (24, 12, False), (16, 8, False))
"""Most characters of pruners and of recipes, and whether degenerate samples are counted: the first of these if all
columns fit, else the one with which most dimensions have a column."""
MISSES = 20
"""Number of columns in a row that do not fit, after which no others are tried."""
LONGEST = 60
"""Most characters of a label that is not shortened because it would look like another one."""
SIGNS = {"better": "▲", "worse": "▼", "": " "}
ShownLine = tuple[str, bool]
"""A line, and whether it is about a collapsed row."""


def table(board: Board, width: int | None = None, *, all_columns: bool = False) -> str:
    """Return a board as plain text: one block per model, one line per row, metrics grouped by task.

    Headers are shortened and intervals left out until the table is at most `width` (default `WIDTH`) characters wide.
    If the columns still do not fit, those that are shown are chosen, see `chosen`.

    Args:
        board: what `pruningbench.leaderboard.build` returned.
        width: columns of the terminal.
        all_columns: show all columns, in further tables below if they do not fit.
    """
    return "\n".join(line for line, _ in table_lines(board, width, all_columns=all_columns))


def table_lines(board: Board, width: int | None = None, *, all_columns: bool = False) -> list[ShownLine]:
    """Return the lines of `table`, safe to display, each with whether it is about a collapsed row."""
    width = width or WIDTH
    head = cut_to(elide(board.title, 4 * WIDTH), 4 * WIDTH)
    if not board.rows:
        text = " ".join([f"{head}: no results.", *board.notes, failed_sentence(board)])
        return [(displayable(text), False)]
    printed = _Printed(board)
    pages, limit, intervals = printed.pages(width, all_columns)
    lines: list[ShownLine] = [(head, False), ("", False)]
    for page in pages:
        lines += printed.page(page, limit, intervals)
    shown = [column for page in pages for column in page]
    explained = legend(board, shown, width, intervals=intervals, degenerate=printed.counts_degenerate)
    return [*lines, *((line, False) for line in explained)]


def terminal_lines(
    boards: Sequence[Board], width: int | None = None, *, all_columns: bool = False, whole: Sequence[Board] = ()
) -> list[ShownLine]:
    """Return the lines of `table_lines` of several boards, each followed by its findings, with blank lines between.

    Args:
        boards: what to show.
        width: columns of the terminal.
        all_columns: show all columns, in further tables below if they do not fit.
        whole: the same boards with all rows and columns, which the findings are about; `boards` by default.
    """
    lines: list[ShownLine] = []
    for board, of_board in zip(boards, whole or boards, strict=True):
        lines += [("", False)] * bool(lines) + table_lines(board, width, all_columns=all_columns)
        findings = summary_lines(of_board, width or WIDTH)
        lines += [(line, False) for line in ["", *findings] if findings]
    return lines or [("No results.", False)]


class _Printed:
    """A board while it is printed; its fields are made once for each width of their headers."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._style = LEFT[0]
        self._field = lru_cache(maxsize=4096)(self._metric)
        self._lefts = lru_cache(maxsize=None)(self._left)

    def pages(self, width: int, all_columns: bool) -> tuple[list[list[Column]], int, bool]:
        """Return the columns of each table, the width of their headers, and whether they have intervals."""
        columns = list(self._board.columns)
        if (
            total(self._lefts(self._style)) + 4 * len(columns) <= width
        ):  # a metric takes four columns of the terminal at least
            layout = self._best_layout(columns, width)
            if layout is not None:
                return [columns], *layout
        if all_columns:
            self._style = LEFT[0] if width >= WIDTH else LEFT[1]
            return self._split(columns, width), NARROWEST + 1, False
        tried = [(style, self._chosen(width, style)) for style in LEFT]
        self._style, columns = max(tried, key=lambda pair: len({c.dimension or c.task for c in pair[1]}))
        limit, intervals = self._best_layout(columns, width) or (NARROWEST + 1, False)
        return [columns], limit, intervals

    @property
    def counts_degenerate(self) -> bool:
        """Whether the tables have a column of degenerate samples, if there are any."""
        return self._style[2]

    def _best_layout(self, columns: Sequence[Column], width: int) -> tuple[int, bool] | None:
        """Return the widest headers, with intervals if possible, with which the columns fit; None if they never do."""
        layouts = [(10, True), (8, True), *((limit, False) for limit in range(WIDEST, NARROWEST - 1, -1))]
        return next((layout for layout in layouts if self._width(columns, *layout) <= width), None)

    def _chosen(self, width: int, style: tuple[int, int, bool]) -> list[Column]:
        """Return the columns that fit, chosen by `priority`, in the order of the board; at least one."""
        self._style = style
        chosen: list[Column] = []
        misses = 0
        places = {column.key: i for i, column in enumerate(self._board.columns)}
        for column in priority(self._board.columns):
            tried = sorted([*chosen, column], key=lambda c: places[c.key])
            if not chosen or self._width(tried, NARROWEST + 1, False) <= width:
                chosen, misses = tried, 0
            elif (misses := misses + 1) >= MISSES:
                break
        return chosen

    def _split(self, columns: Sequence[Column], width: int) -> list[list[Column]]:
        """Return the columns of several tables; the metrics of a variant stay in one table if they fit."""

        def fits(some: Sequence[Column]) -> bool:
            return self._width(some, NARROWEST + 1, False) <= width

        pages: list[list[Column]] = []
        for _, group in groupby(columns, key=lambda column: column.key[:2]):
            together = list(group)
            whole = len(together) <= width and fits(together)
            for some in [together] if whole else [[column] for column in together]:
                if pages and fits([*pages[-1], *some]):
                    pages[-1] += some
                else:
                    pages.append(list(some))
        return pages

    def _width(self, columns: Sequence[Column], limit: int, intervals: bool) -> int:
        return total(self._fields(columns, limit, intervals))

    def _fields(self, columns: Sequence[Column], limit: int, intervals: bool) -> list[Field]:
        fields = list(self._lefts(self._style))
        sizes = Counter(column.key[:2] for column in columns)
        for before, column in pairwise([None, *columns]):
            if column is not None:
                if _apart(before, column, sizes):
                    fields.append(Field([], [BAR] * len(self._board.rows), "left"))
                fields.append(self._field(column, limit, intervals))
        return fields

    def page(self, columns: Sequence[Column], limit: int, intervals: bool) -> Iterator[ShownLine]:
        """Yield the lines of a table of these columns: one block per model."""
        fields = self._fields(columns, limit, intervals)
        header, lines, full = header_lines(fields), row_lines(fields), total(fields)
        for model, of_model in groupby(enumerate(self._board.rows), key=lambda pair: pair[1].model):
            rows = list(of_model)
            yield heading(model, full), False
            yield from ((line, False) for line in header)
            ordered = all(a.sparsity <= b.sparsity for (_, a), (_, b) in pairwise(rows))
            for i, (place, row) in enumerate(rows):
                if not i or (ordered and row.sparsity != rows[i - 1][1].sparsity):
                    yield "┄" * full, False
                yield lines[place], row.collapsed
            yield "", False

    def _left(self, style: tuple[int, int, bool]) -> list[Field]:
        rows = self._board.rows
        longest, longest_recipe, counted = style
        pruners = numbered(compact((row.pruner for row in rows), longest), LONGEST)
        recipes = numbered(compact((row.recipe for row in rows), longest_recipe), LONGEST)
        fields = [
            Field(["spar-", "sity"], [percent(row.sparsity) for row in rows], "right"),
            Field(["pruner"], [pruners[row.pruner] + _signs(row) for row in rows], "left"),
            Field(["recipe"], [recipes[row.recipe] for row in rows], "left"),
        ]
        for name in rows[0].extra:
            fields.append(Field([elide(name, 20)], [_plain(row.extra[name]) for row in rows], "right"))
        if any(row.rank is not None or row.collapsed for row in rows):
            fields.append(Field(["rank"], [_rank(row) for row in rows], "right"))
        if counted and any(row.degenerate for row in rows):
            counts = [sum(row.degenerate.values()) for row in rows]
            fields.append(Field(["degen-", "erate"], [str(count or "") for count in counts], "right"))
        return fields

    def _metric(self, column: Column, limit: int, intervals: bool) -> Field:
        header = [*(cut_to(piece, limit) for piece in wrap(elide(column.metric, 4 * limit), limit)), column.arrow]
        return Field([line for line in header if line], self._cells(column, intervals), "right", column)

    def _cells(self, column: Column, intervals: bool) -> list[str]:
        rows = self._board.rows
        entries = [row.cells.get(column.key) for row in rows]
        decimals = decimals_for(entry.value for entry in entries if entry)
        cells = []
        for entry in entries:
            if entry is None:
                cells.append("-")
                continue
            known = intervals and math.isfinite(entry.half_width)
            error = f"±{number(entry.half_width, decimals)}" if known else ""
            cells.append(f"{'*' * entry.best}{number(entry.value, decimals)}{error}")
        low = [column.key in row.at_chance for row in rows]
        if any(low):
            cells = [cell + (CHANCE if chance else " ") for cell, chance in zip(cells, low, strict=True)]
        verdicts = [row.verdicts.get(column.key, "") for row in rows]
        if any(verdicts):
            cells = [cell + SIGNS[verdict] for cell, verdict in zip(cells, verdicts, strict=True)]
        return cells


def priority(columns: Sequence[Column]) -> list[Column]:
    """Return columns in the order in which a narrow table takes them: the main metric of each dimension comes first.

    Then come the second of each dimension, and so on; within a dimension, main metrics precede the others.
    """
    dimensions: dict[str, list[Column]] = {}
    for column in sorted(columns, key=lambda column: not column.main):
        dimensions.setdefault(column.dimension or column.task, []).append(column)
    turns = [(turn, i, column) for i, own in enumerate(dimensions.values()) for turn, column in enumerate(own)]
    return [column for _, _, column in sorted(turns, key=lambda entry: entry[:2])]


def _apart(before: Column | None, column: Column, sizes: Counter[tuple[str, str]]) -> bool:
    """Whether a bar separates two columns: between tasks, and between variants with several metrics."""
    if before is None or before.task != column.task:
        return True
    return before.variant != column.variant and max(sizes[before.key[:2]], sizes[column.key[:2]]) > 1


def _signs(row: Row) -> str:
    return UNDECIDED_MARK * row.undecided + SIGN * row.marked


def _rank(row: Row) -> str:
    if row.collapsed:
        return CHANCE
    return "" if row.rank is None else f"{row.rank:.2f}"


def _plain(value: float | str | None) -> str:
    return "-" if value is None else elide(displayable(value), LONGEST) if isinstance(value, str) else f"{value:g}"
