"""Grids: the maps or boxes of the same images, from dense to sparse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pruningbench.contract.reporting import Drawing, ShownExhibit, ShownSample, percent
from pruningbench.leaderboard.canvas import FOUND, TRUE, Canvas, spread
from pruningbench.leaderboard.exhibits import dense_beside
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.leaderboard.references import as_loaded
from pruningbench.leaderboard.style import FAINT, INK, PRINT_DPI, text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE, SPACE, CAPTION = 0.8, 0.04, 0.13
"""Sizes in inches: side of a picture, space between pictures, height of the captions below a row of pictures."""
MARGIN, BETWEEN, TITLE, HEAD = 0.15, 0.3, 0.62, 0.42
"""Space in inches: around the figure, between blocks, for the figure's title and for a block's two header lines."""
IMAGES, SPARSITIES, BLOCKS, ACROSS = 3, 6, 8, 2
"""Most images and sparsities in a block, blocks in a figure, and blocks side by side."""


@dataclass(frozen=True)
class _Block:
    """The pictures of one pruner by sparsity; 0 is the dense model."""

    title: str
    columns: dict[float, dict[str, ShownSample]]


@dataclass(frozen=True)
class _Page:
    """The content of one figure."""

    title: str
    kind: str
    keys: list[str]
    sparsities: list[float]
    blocks: list[_Block]

    @property
    def captioned(self) -> bool:
        """Whether any picture has a caption."""
        return any(s.caption for b in self.blocks for column in b.columns.values() for s in column.values())

    @property
    def signed(self) -> bool:
        """Whether any map has a negative value."""
        return any(
            sample.map is not None and bool((sample.map < 0).any())
            for block in self.blocks
            for column in block.columns.values()
            for sample in column.values()
        )


def grids(names: Sequence[str], shown: Sequence[ShownExhibit]) -> Iterator[Drawing]:
    """Yield the name and drawing of each figure of maps or boxes for a task, variant and model.

    There is one figure per recipe, with one block per pruner. The rows of a block are the same images; its columns are
    the image (for maps), the dense model and ascending sparsities.

    Args:
        names: task, variant and model.
        shown: the exhibits of one model, all of one kind.
    """
    for recipe, blocks, keys in _recipes(shown):
        for start in range(0, len(blocks), BLOCKS):
            part = blocks[start : start + BLOCKS]
            label = compact([recipe])[recipe]
            title = " · ".join(filter(None, (*names, label and f"recipe {label}")))
            sparsities = spread(sorted({s for block in part for s in block.columns}), SPARSITIES)
            page = _Page(title, shown[0].kind, keys, sparsities, part)
            yield [shown[0].kind, *filter(None, (*names, recipe))], partial(_figure, page)


def _recipes(shown: Sequence[ShownExhibit]) -> Iterator[tuple[str, list[_Block], list[str]]]:
    """Yield (recipe, one block per pruner, keys of the images that most of them share)."""
    dense = dense_beside(shown)
    pruners = compact(one.pruner for one in shown)
    by_recipe: dict[str, dict[str, dict[float, dict[str, ShownSample]]]] = {}
    for one in shown:
        if one.sparsity:
            columns = by_recipe.setdefault(one.recipe, {}).setdefault(one.pruner, dense(one.recipe))
            columns[one.sparsity] = one.samples
    if not by_recipe:
        by_recipe[""] = {shown[0].pruner: dense("")}
    for recipe, by_pruner in sorted(by_recipe.items(), key=lambda pair: (not as_loaded(pair[0]), pair[0])):
        blocks = [_Block(pruners[pruner], columns) for pruner, columns in sorted(by_pruner.items())]
        everywhere = [samples for block in blocks for samples in block.columns.values()]
        known = dict.fromkeys(key for samples in everywhere for key in samples)
        keys = sorted(known, key=lambda key: -sum(key in samples for samples in everywhere))
        if keys:
            yield recipe, blocks, keys[: IMAGES if len(blocks) > 1 else IMAGES + 1]


def _figure(page: _Page) -> Figure:
    across = min(ACROSS, len(page.blocks))
    down = -(-len(page.blocks) // across)
    columns = len(page.sparsities) + (page.kind == "maps")
    pitch = TILE + SPACE + (CAPTION if page.captioned else 0)
    block_width = columns * (TILE + SPACE)
    block_height = HEAD + len(page.keys) * pitch
    width = max(2 * MARGIN + across * (block_width + BETWEEN) - BETWEEN, 5.0)
    height = TITLE + down * (block_height + BETWEEN / 2) + MARGIN
    canvas = Canvas(width, height, TILE)
    room = int((width - 2 * MARGIN) / text_width("x", 11))
    canvas.text(MARGIN, MARGIN, elide(page.title, room), 11, fontweight="bold", va="top")
    canvas.text(MARGIN, MARGIN + 0.22, _explanation(page), 7.5, va="top", color=FAINT)
    for i, block in enumerate(page.blocks):
        left = MARGIN + (i % across) * (block_width + BETWEEN)
        _draw_block(canvas, page, block, left, TITLE + (i // across) * (block_height + BETWEEN / 2), pitch)
    return canvas.finish()


def _explanation(page: _Page) -> str:
    if page.kind == "boxes":
        return "orange: boxes found; white, dashed: true boxes"
    colours = "blue −1, white 0, red 1" if page.signed else "black 0, light 1"
    return f"each map divided by its 99th percentile ({colours}); grey: no signal"


def _draw_block(canvas: Canvas, page: _Page, block: _Block, left: float, top: float, pitch: float) -> None:
    """Draw a pruner's pictures below its name and the sparsities that it was measured at."""
    sparsities = [sparsity for sparsity in page.sparsities if sparsity in block.columns]
    wide = len(page.sparsities) + (page.kind == "maps")
    canvas.text(left, top + 0.15, elide(block.title, int(wide * TILE / text_width("x", 9))), 9, va="baseline")
    heads = ["image"] if page.kind == "maps" else []
    heads += ["dense" if sparsity == 0 else percent(sparsity) for sparsity in sparsities]
    for j, head in enumerate(heads):
        canvas.text(left + j * (TILE + SPACE) + TILE / 2, top + HEAD - 0.06, head, 8, ha="center", color=INK)
    measured = [block.columns[sparsity] for sparsity in sparsities]
    for i, key in enumerate(page.keys):
        y = top + HEAD + i * pitch
        samples = [columns.get(key) for columns in measured]
        x = left
        if page.kind == "maps":
            first = next(filter(None, samples), None)
            _draw(canvas, x, y, first, "image", signed=False)
            x += TILE + SPACE
        for sample in samples:
            _draw(canvas, x, y, sample, page.kind, signed=page.signed)
            x += TILE + SPACE


def _draw(canvas: Canvas, x: float, y: float, sample: ShownSample | None, what: str, *, signed: bool) -> None:
    """Draw one picture: the image alone, its map, or the image with its boxes."""
    from pruningbench.leaderboard.tiles import GREY, image_tile, map_tile

    middle = (x + TILE / 2, y + TILE / 2)
    if sample is None:
        canvas.picture(x, y, 0.95)
        canvas.text(*middle, "not kept", 6.5, ha="center", va="center", color=FAINT)
        return
    if what == "maps" and sample.map is not None:
        tile = map_tile(sample.map, canvas.side, signed=signed)
        canvas.picture(x, y, GREY if tile is None else tile)
        if tile is None:
            canvas.text(*middle, "no signal", 6.5, ha="center", va="center")
    else:
        tile = image_tile(sample.image, canvas.side)
        corner = canvas.picture(x, y, tile)
        if what == "boxes":
            height, width = sample.image.shape[1:]
            scale = tile.shape[0] / PRINT_DPI / height, tile.shape[1] / PRINT_DPI / width
            _draw_boxes(canvas, corner, scale, sample)
    if what != "image" and sample.caption:
        caption = elide(sample.caption, int(TILE / text_width("x", 6.5)))
        canvas.text(x + TILE / 2, y + TILE + 0.015, caption, 6.5, ha="center", va="top")


def _draw_boxes(canvas: Canvas, corner: tuple[float, float], scale: tuple[float, float], sample: ShownSample) -> None:
    """Outline true and predicted boxes on an image with its corner at `corner`; `scale` is inches per pixel (y, x)."""
    import numpy as np

    height, width = sample.image.shape[1:]
    for colour, boxes in ((TRUE, sample.truth), (FOUND, sample.predicted)):
        for box in () if boxes is None else boxes:
            if np.isfinite(box).all():
                x0, y0, x1, y1 = (float(v) for v in np.clip(box, 0, [width, height, width, height]))
                canvas.box(colour, (corner[0] + x0 * scale[1], corner[1] + y0 * scale[0],
                                    corner[0] + x1 * scale[1], corner[1] + y1 * scale[0]))  # fmt: skip
