"""Tables of values against sparsity, for the detail pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args
from urllib.parse import urlencode

from pruningbench.base.text import displayable
from pruningbench.leaderboard.aggregation import Entry
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.leaderboard.numbers import decimals_for, number
from pruningbench.leaderboard.rows import Board, Column, Row
from pruningbench.site.html import Content, Html, e
from pruningbench.site.links import PageKind, page_of
from pruningbench.site.parts import percent

Label = Literal["model", "pruner", "recipe"]
LABELS: tuple[Label, ...] = get_args(Label)
LINES, TABLES, SPARSITIES = 40, 12, 12
"""Most lines of a table, tables of a page, and sparsities in a table."""
LONGEST, LONGEST_STATE = 60, 400
"""Most characters of a label, and of the state in the address of a view."""
NO_SIGN = e("span", class_="mark")
"""Keeps the place of the signs free, so that numbers stand below each other."""
LEGEND = (
    "▲ better and ▼ worse than the dense reference, significant after correction for all tests of the model's table; "
    "± half of the 95 % interval; hatched †: the network has collapsed to chance."
)


@dataclass(frozen=True)
class Line:
    """One line of a table: a condition, and its rows on a board by sparsity (0: the dense reference)."""

    model: str
    pruner: str
    recipe: str
    rows: dict[float, Row]


@dataclass(frozen=True)
class Lines:
    """The lines of a board.

    Attributes:
        board: the board.
        place: its place among the boards of the site.
        pruned: one line for each model, pruner and recipe, by model in the order of the board, then by name.
        dense: one line for each dense row.
    """

    board: Board
    place: int
    pruned: tuple[Line, ...]
    dense: tuple[Line, ...]

    @cached_property
    def _by_label(self) -> dict[tuple[str, str], list[Line]]:
        found: dict[tuple[str, str], list[Line]] = {}
        for line in (*self.pruned, *self.dense):
            for label in LABELS:
                found.setdefault((label, getattr(line, label)), []).append(line)
        return found

    def of(self, label: Label, name: str) -> list[Line]:
        """Return the lines that have a label: the pruned ones, or the dense ones if there are no others."""
        listed = self._by_label.get((label, name), [])
        return [line for line in listed if set(line.rows) != {0.0}] or listed


def lines_of(board: Board, place: int = 0) -> Lines:
    """Return the lines of a board, given its place among the boards of the site."""
    dense = {
        (row.model, row.recipe): Line(row.model, row.pruner, row.recipe, {0.0: row}) for row in board.rows if row.dense
    }
    pruned: dict[tuple[str, str, str], Line] = {}
    for row in board.rows:
        if row.dense:
            continue
        key = (row.model, row.pruner, row.recipe)
        line = pruned.setdefault(key, Line(*key, {}))
        line.rows[row.sparsity] = row
        reference = dense.get((row.model, row.reference))
        if reference is not None:
            line.rows.setdefault(0.0, reference.rows[0.0])
    models = {model: i for i, model in enumerate(dict.fromkeys(row.model for row in board.rows))}
    listed = sorted(pruned.values(), key=lambda line: (models[line.model], line.pruner, line.recipe))
    return Lines(board, place, tuple(listed), tuple(dense.values()))


def main_columns(columns: Iterable[Column]) -> list[Column]:
    """Return the first column of each task and variant."""
    first: dict[tuple[str, str], Column] = {}
    for column in columns:
        first.setdefault((column.task, column.variant), column)
    return list(first.values())


def value_table(column: Column, lines: Sequence[Line], labels: Sequence[Label], *, caption: Content) -> Html | None:
    """Return the values of a column against sparsity; None if no line has any.

    Args:
        column: the column.
        lines: its lines.
        labels: kinds of labels to show; the others are the same for all lines.
        caption: what the table shows.
    """
    filled = [line for line in lines if any(column.key in row.cells for row in line.rows.values())]
    if not filled:
        return None
    shown = filled[:LINES]
    sparsities = sorted({sparsity for line in shown for sparsity in line.rows})
    step = max(1, math.ceil(len(sparsities) / SPARSITIES))
    chosen = sorted({*sparsities[::step], sparsities[-1]})
    decimals = decimals_for(
        row.cells[column.key].value for line in shown for row in line.rows.values() if column.key in row.cells
    )
    short = {label: compact(getattr(line, label) for line in shown) for label in labels}
    head = [
        *(e("th", label, scope="col") for label in labels),
        *(e("th", "dense" if s == 0 else percent(s), scope="col", class_="number") for s in chosen),
    ]
    body = [
        e("tr",
          *(e("th" if i == 0 else "td", _link(label, getattr(line, label), short[label][getattr(line, label)]),
              scope="row" if i == 0 else None, class_="text")
            for i, label in enumerate(labels)),
          *(_cell(column, line.rows.get(s), decimals) for s in chosen))
        for line in shown
    ]  # fmt: skip
    left_out = [
        f"{len(filled) - len(shown)} of {len(filled)} lines are left out: see the table."
        if len(filled) > LINES
        else "",
        f"{len(sparsities) - len(chosen)} sparsities are left out." if len(chosen) < len(sparsities) else "",
    ]
    table = e("table", e("caption", caption), e("thead", e("tr", head)), e("tbody", body), class_="values")
    return e(
        "div", e("div", table, class_="scroll", tabindex="0", role="region", aria_label="values against sparsity"),
        [e("p", words, class_="note") for words in left_out if words],
    )  # fmt: skip


def column_words(column: Column) -> str:
    """Return what a column measures in one line: metric, unit and direction."""
    direction = {True: "higher is better", False: "lower is better", None: "no direction is better"}
    unit = elide(column.unit, LONGEST)
    variant = f" · {elide(column.variant, LONGEST)}" if column.variant else ""
    about = ", ".join(filter(None, (unit, direction[column.higher_is_better])))
    return f"{elide(column.task, LONGEST)}{variant} · {elide(column.metric, LONGEST)} ({about})"


def column_heading(lines: Lines, column: Column, *, model: str = "") -> list[Content]:
    """Return what a column measures with links to the pages of the task and the metric, and to its curves.

    Args:
        lines: the lines of the column's board.
        column: the column.
        model: the model whose curves are meant; "" for any.
    """
    words = column_words(column)
    about = words[words.rindex(" (") :] if " (" in words else ""
    chosen = {"board": lines.place or "", "model": displayable(model), "metric": displayable(column.header)}
    state = urlencode({key: value for key, value in chosen.items() if value})
    curves = f"../curves.html#{state}" if len(state) <= LONGEST_STATE else "../curves.html"
    return [
        e("a", elide(column.task, LONGEST), href="../" + page_of("task", column.task)),
        f" · {elide(column.variant, LONGEST)}" if column.variant else "",
        " · ",
        e("a", elide(column.metric, LONGEST), href="../" + page_of("metric", column.metric)),
        about,
        " · ",
        e("a", "curves", href=curves, aria_label=f"curves of {words}"),
    ]


def _link(kind: PageKind, name: str, words: str) -> Html:
    return e("a", elide(words, LONGEST), href=f"../{page_of(kind, name)}")


def _cell(column: Column, row: Row | None, decimals: int | None) -> Html:
    entry = row.cells.get(column.key) if row is not None else None
    if row is None or entry is None:
        return e("td", "–", NO_SIGN, class_="number none")
    if math.isnan(entry.value):
        return e("td", "undefined", NO_SIGN, class_="number none")
    verdict = row.verdicts.get(column.key)
    mark = {"better": "▲", "worse": "▼", None: ""}[verdict]
    low = "†" if row.collapsed or column.key in row.at_chance else ""
    half = entry.half_width
    spread = e("span", f" ±{number(half, decimals)}", class_="spread") if math.isfinite(half) else None
    signs = e("span", low, e("span", mark, class_=verdict) if mark else None, class_="mark") if low or mark else NO_SIGN
    look = "number collapsed" if row.collapsed else "number"
    return e("td", number(entry.value, decimals), spread, signs, class_=look, title=_title(entry))


def _title(entry: Entry) -> str:
    seeds = f"{entry.seeds} seed{'s' if entry.seeds != 1 else ''}"
    samples = f"{entry.n} sample{'s' if entry.n != 1 else ''}"
    if not math.isfinite(entry.half_width):
        return f"{seeds}, {samples}"
    return f"95 % interval {entry.low:.4g} to {entry.high:.4g}; {seeds}, {samples}"
