"""Compose one scene: background, clutter, and digits where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pruningbench_data._scans import Bytes, Floats, enlarge, load_scans, rows_of, to_bytes

Box = tuple[int, int, int, int]

INK_THRESHOLD = 0.5  # share of a pixel that ink must cover for the pixel to belong to the mask
CLUTTER_BRIGHTNESS = (0.25, 0.55)  # relative to full white; digits have 0.8 to 1
BIT = 4  # side of the part of a scan shown in a clutter fragment, in pixels of the scan
COARSE = 5  # side of the grid behind the background's smooth texture


@dataclass(frozen=True)
class Layout:
    """Parameters of the scenes' appearance.

    Attributes:
        size: side in pixels.
        objects: fewest and most digits.
        sides: smallest and largest side of a digit's scan in pixels.
        clutter: number of fragments of other digits.
        noise: brightest background, in [0, 1).
        gap: free pixels between boxes.
    """

    size: int
    objects: tuple[int, int]
    sides: tuple[int, int]
    clutter: int
    noise: float
    gap: int


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        image: (size, size) uint8.
        mask: (size, size) bool, True on the ink of the digits.
        boxes: (K, 4) float32 tight boxes xmin, ymin, xmax, ymax, maxima exclusive.
        rows: rows of the K digits in the source.
        clutter_rows: rows of the scans from which the clutter was cut.
    """

    image: Bytes
    mask: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    rows: tuple[int, ...]
    clutter_rows: tuple[int, ...]


@dataclass(frozen=True)
class _Piece:
    """A patch of ink (h, w) in [0, 1] whose upper left corner lies at (top, left)."""

    ink: Floats
    top: int
    left: int

    @property
    def box(self) -> Box:
        height, width = self.ink.shape
        return self.left, self.top, self.left + width, self.top + height

    @property
    def window(self) -> tuple[slice, slice]:
        xmin, ymin, xmax, ymax = self.box
        return slice(ymin, ymax), slice(xmin, xmax)

    def paint(self, canvas: Floats, brightness: float) -> None:
        """Cover the canvas in proportion to the ink."""
        canvas[self.window] += self.ink * (brightness - canvas[self.window])


def compose(layout: Layout, split: Literal["train", "test"], classes: Sequence[int], label: int, seed: int) -> Scene:
    """Compose a scene of digits ``classes[label]`` from the scans of `split`."""
    rng = np.random.Generator(np.random.PCG64(seed))
    canvas = _background(layout, rng)
    count = int(rng.integers(layout.objects[0], layout.objects[1] + 1))
    rows_of_class = rows_of(split, [classes[label]])
    rows_of_other_classes = rows_of(split, [digit for digit in classes if digit != classes[label]]) or rows_of_class
    rows = tuple(rows_of_class[i] for i in rng.integers(len(rows_of_class), size=count))
    digits = _place_digits(layout, rows, rng)
    occupied = [piece.box for piece in digits]
    clutter_rows = tuple(
        rows_of_other_classes[i] for i in rng.integers(len(rows_of_other_classes), size=layout.clutter)
    )
    for row in clutter_rows:
        bit = _bit_of_clutter(layout, row, occupied, rng)
        if bit is not None:
            bit.paint(canvas, float(rng.uniform(*CLUTTER_BRIGHTNESS)))
    mask = np.zeros(canvas.shape, dtype=np.bool_)
    boxes = []
    for piece in digits:
        piece.paint(canvas, float(rng.uniform(0.8, 1.0)))
        solid = np.zeros_like(mask)
        solid[piece.window] = piece.ink >= INK_THRESHOLD
        mask |= solid
        boxes.append(_tight_box(solid))
    return Scene(to_bytes(canvas), mask, np.array(boxes, dtype=np.float32), rows, clutter_rows)


def _background(layout: Layout, rng: np.random.Generator) -> Floats:
    """Return a smooth random texture with fine grain, between 0 and ``layout.noise``."""
    smooth = enlarge(rng.random((COARSE, COARSE)), layout.size)
    grain = rng.random((layout.size, layout.size))
    texture: Floats = layout.noise * (0.65 * smooth + 0.35 * grain)
    return texture


def _place_digits(layout: Layout, rows: Sequence[int], rng: np.random.Generator) -> list[_Piece]:
    """Place the digits at random without overlap.

    If a digit finds no room, all are placed again with a smaller maximum side; if the smallest does not fit
    either, they are placed on a grid.
    """
    smallest, largest = layout.sides
    for limit in (largest, (smallest + largest) // 2, smallest):
        pieces: list[_Piece] = []
        for row in rows:
            side = int(rng.integers(smallest, limit + 1))
            piece = _placed(layout, enlarge(load_scans().ink[row], side), [p.box for p in pieces], rng)
            if piece is None:
                break
            pieces.append(piece)
        else:
            return pieces
    cell = smallest + layout.gap
    columns = (layout.size + layout.gap) // cell
    cells = rng.permutation(columns * columns)[: len(rows)]
    return [
        _trimmed(enlarge(load_scans().ink[row], smallest), int(at) // columns * cell, int(at) % columns * cell)
        for row, at in zip(rows, cells, strict=True)
    ]


def _bit_of_clutter(layout: Layout, row: int, occupied: Sequence[Box], rng: np.random.Generator) -> _Piece | None:
    """Return a fragment of a scan, or None if there is no room beside the digits."""
    scan = load_scans().ink[row]
    top, left = (int(corner) for corner in rng.integers(1, scan.shape[0] - BIT, size=2))
    stroke = layout.sides[0] + layout.sides[1]  # twice the mean side: fragments have the digits' stroke width
    side = round(stroke / 2 * BIT / scan.shape[0])
    return _placed(layout, enlarge(scan[top : top + BIT, left : left + BIT], side), occupied, rng)


def _placed(layout: Layout, ink: Floats, occupied: Sequence[Box], rng: np.random.Generator) -> _Piece | None:
    """Place the inked part of a patch in the scene outside `occupied`, at a uniformly random position."""
    if not ink.any():
        return None
    ink = _trimmed(ink).ink
    height, width = ink.shape
    free = np.ones((layout.size - height + 1, layout.size - width + 1), dtype=np.bool_)
    for left, top, right, bottom in occupied:
        rows = slice(max(top - layout.gap - height + 1, 0), bottom + layout.gap)
        columns = slice(max(left - layout.gap - width + 1, 0), right + layout.gap)
        free[rows, columns] = False
    places = np.argwhere(free)
    if not len(places):
        return None
    top, left = places[int(rng.integers(len(places)))]
    return _Piece(ink, int(top), int(left))


def _trimmed(ink: Floats, top: int = 0, left: int = 0) -> _Piece:
    """Return the inked part of a patch whose corner lies at (top, left)."""
    xmin, ymin, xmax, ymax = _tight_box(ink > 0)
    return _Piece(ink[ymin:ymax, xmin:xmax], top + ymin, left + xmin)


def _tight_box(mask: NDArray[np.bool_]) -> Box:
    """Return xmin, ymin, xmax, ymax around the True pixels, maxima exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
