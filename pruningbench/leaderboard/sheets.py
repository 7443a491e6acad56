"""Sheets: the crops that show each concept of the dense model, beside those of pruned models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pruningbench.contract.reporting import Drawing, ShownExhibit, ShownSample, percent
from pruningbench.leaderboard.canvas import Canvas, spread
from pruningbench.leaderboard.exhibits import dense_beside
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.leaderboard.style import FAINT, text_width
from pruningbench.leaderboard.tiles import image_tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE, SPACE, CAPTION = 0.5, 0.03, 0.17
"""Sizes in inches: side of a crop, space between crops, height of the line below a row of crops."""
MARGIN, BETWEEN, TITLE, HEAD, LABEL = 0.15, 0.25, 0.56, 0.22, 0.2
"""Space in inches: around the figure, between blocks, for the title, for a class heading and for a row's number."""
BLOCKS, ROWS, PLACES = 4, 15, 8
"""Most conditions side by side, rows in a figure, and crops in a row."""

WIDEST = 3.2
"""Largest width in inches to which captions may widen a block of few crops."""

Column = dict[str, list[ShownSample]]
"""The crops of one condition by row, in order."""


@dataclass(frozen=True)
class _Sheet:
    """The content of one figure."""

    title: str
    rows: list[str]
    columns: dict[float, Column]


def sheets(names: Sequence[str], shown: Sequence[ShownExhibit]) -> Iterator[Drawing]:
    """Yield the name and drawing of each sheet, one per pruner and recipe.

    Rows are the dense model's concepts, class by class. Blocks are the dense model and
    ascending sparsities; the rows of a sparsity show the concepts that were paired with the dense ones.

    Args:
        names: task, variant and model.
        shown: the exhibits of one model.
    """
    dense = dense_beside(shown)
    pruners = compact(one.pruner for one in shown)
    conditions: dict[tuple[str, str], dict[float, Column]] = {}
    for one in shown:
        if one.sparsity:
            of_dense = {sparsity: _rows(samples) for sparsity, samples in dense(one.recipe).items()}
            conditions.setdefault((one.pruner, one.recipe), of_dense)[one.sparsity] = _rows(one.samples)
    alone = {sparsity: _rows(samples) for sparsity, samples in dense("").items()}
    for (pruner, recipe), columns in sorted(conditions.items()) or [(("", ""), alone)]:
        rows = list(dict.fromkeys(row for sparsity in sorted(columns) for row in columns[sparsity]))
        chosen = {sparsity: columns[sparsity] for sparsity in spread(sorted(columns), BLOCKS)}
        condition = (pruners.get(pruner, pruner), recipe and f"recipe {recipe}")
        title = " · ".join(filter(None, (*names, *condition)))
        for start in range(0, len(rows), ROWS):
            sheet = _Sheet(title, rows[start : start + ROWS], chosen)
            yield ["concepts", *filter(None, (*names, pruner, recipe))], partial(_figure, sheet)


def _rows(samples: dict[str, ShownSample]) -> Column:
    rows: Column = {}
    for key, crop in samples.items():
        rows.setdefault(key.rpartition("/")[0], []).append(crop)
    return rows


def _figure(sheet: _Sheet) -> Figure:
    places = min(max(len(crops) for column in sheet.columns.values() for crops in column.values()), PLACES)
    longest = max(text_width(crops[0].caption, 6.5) for column in sheet.columns.values() for crops in column.values())
    block = max(places * (TILE + SPACE) - SPACE, min(longest + SPACE, WIDEST))
    heads = sum(_class_of(row) != _class_of(before) for row, before in _neighbours(sheet.rows))
    width = max(2 * MARGIN + LABEL + len(sheet.columns) * (block + BETWEEN) - BETWEEN, 5.0)
    height = TITLE + HEAD * (heads + 1) + len(sheet.rows) * (TILE + CAPTION) + MARGIN
    canvas = Canvas(width, height, TILE)
    room = int((width - 2 * MARGIN) / text_width("x", 11))
    canvas.text(MARGIN, MARGIN, elide(sheet.title, room), 11, fontweight="bold", va="top")
    explained = (
        "a row shows one concept by the crops it is most active in; pruned rows show the dense concept's partner"
    )
    canvas.text(MARGIN, MARGIN + 0.22, elide(explained, int(room * 11 / 7.5)), 7.5, va="top", color=FAINT)
    lefts = [MARGIN + LABEL + i * (block + BETWEEN) for i in range(len(sheet.columns))]
    for left, sparsity in zip(lefts, sheet.columns, strict=True):
        head = "dense" if sparsity == 0 else f"{percent(sparsity)} pruned"
        canvas.text(left + block / 2, TITLE + HEAD - 0.05, head, 9, ha="center", va="baseline")
    top = TITLE + HEAD
    for row, before in _neighbours(sheet.rows):
        if _class_of(row) != _class_of(before):
            canvas.text(MARGIN, top + HEAD - 0.07, _class_of(row), 9, fontweight="bold", va="baseline")
            top += HEAD
        canvas.text(MARGIN, top + TILE / 2, row.rpartition(" ")[2], 8, va="center", color=FAINT)
        for left, column in zip(lefts, sheet.columns.values(), strict=True):
            _draw_row(canvas, left, top, column.get(row, [])[:places], block)
        top += TILE + CAPTION
    return canvas.finish()


def _draw_row(canvas: Canvas, left: float, top: float, crops: Sequence[ShownSample], block: float) -> None:
    """Draw the crops of a concept with the caption below, or "undefined" if there are none."""
    if not crops:
        canvas.text(left + block / 2, top + TILE / 2, "undefined", 6.5, ha="center", va="center", color=FAINT)
        return
    for i, crop in enumerate(crops):
        canvas.picture(left + i * (TILE + SPACE), top, image_tile(crop.image, canvas.side))
    caption = elide(crops[0].caption, int(block / text_width("x", 6.5)))
    canvas.text(left, top + TILE + 0.02, caption, 6.5, va="top")


def _neighbours(rows: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each row's name with the name of the row before it, "" for the first."""
    yield from zip(rows, ["", *rows], strict=False)


def _class_of(row: str) -> str:
    return row.rpartition(" ")[0]
