"""The frames of strips: one sample under one pruner and recipe, from dense to sparse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from pruningbench.contract.reporting import ShownExhibit, ShownSample
from pruningbench.leaderboard.labels import elide
from pruningbench.leaderboard.numbers import number
from pruningbench.leaderboard.tiles import fit, image_tile, scaled_map
from pruningbench.site.images import Images, overlay, photo, sheet

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE, CROP, PLACES = 192, 96, 6
"""Longest side of a picture and of a concept's crop in pixels, and most crops of a concept or boxes of a picture."""
CAPTION = 120
"""Most characters of a caption or a key."""
State = Literal["shown", "blank", "missing"]
Box = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax as shares of the picture's width and height, in [0, 1]."""


@dataclass(frozen=True)
class Frame:
    """One sparsity of a strip.

    Attributes:
        sparsity: in [0, 1); 0 is the dense model.
        state: "blank" for a map without signal, "missing" if the run stored no such sample.
        caption: what the plugin says about the sample, and what follows from it: the overlap of boxes, the strength of
            a map; "" if there is nothing to say.
        predicted, truth: boxes, for kind ``boxes``.
    """

    sparsity: float
    state: State
    caption: str = ""
    predicted: tuple[Box, ...] = ()
    truth: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Strip:
    """One sample under one pruner and recipe, from dense to sparse.

    Attributes:
        variant, pruner, recipe: labels of the results.
        address: the file that holds the frames side by side (``maps``) or below each other (``concepts``), relative to
            the site; "" if there is none (``boxes``).
        frames: in ascending sparsity, the same sparsities for all strips of a page.
    """

    variant: str
    pruner: str
    recipe: str
    address: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class SampleStrips:
    """All strips of one sample.

    Attributes:
        key: the sample, or the concept.
        image: the file of the picture without anything drawn on it, relative to the site; "" for ``concepts``.
        size: width and height of a frame in pixels.
        strips: in the order of variants, recipes and pruners.
    """

    key: str
    image: str
    size: tuple[int, int]
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Layout:
    """What all strips of a page have in common.

    Attributes:
        sparsities: ascending.
        signed: whether any map has negative values.
    """

    sparsities: tuple[float, ...]
    signed: bool


@dataclass
class Condition:
    """The samples of one variant, pruner and recipe, by sparsity; 0 is the dense reference."""

    variant: str
    pruner: str
    recipe: str
    columns: dict[float, dict[str, ShownSample]] = field(default_factory=dict)


def grouped(shown: Iterable[ShownExhibit]) -> list[ShownExhibit]:
    """Return exhibits of concepts with one sample per concept, whose crops stand side by side in one picture."""
    return [replace(one, samples=_rows(one.samples)) for one in shown]


def _rows(samples: Mapping[str, ShownSample]) -> dict[str, ShownSample]:
    rows: dict[str, list[ShownSample]] = {}
    for key, crop in samples.items():
        rows.setdefault(key.rpartition("/")[0], []).append(crop)
    return {row: _side_by_side(crops[:PLACES]) for row, crops in rows.items()}


def _side_by_side(crops: Sequence[ShownSample]) -> ShownSample:
    squares = []
    for crop in crops:
        square = np.ones((CROP, CROP + 4, 3))
        if crop.image.size:
            tile = image_tile(crop.image, CROP)
            square[: tile.shape[0], : tile.shape[1]] = tile
        squares.append(square)
    whole = np.concatenate(squares, axis=1)[:, :-4]
    return ShownSample(whole.transpose(2, 0, 1).astype(np.float32), crops[0].caption)


def _first(key: str, conditions: Iterable[Condition]) -> ShownSample | None:
    return next((s for c in conditions for column in c.columns.values() if (s := column.get(key)) is not None), None)


def _base(key: str, conditions: Sequence[Condition], images: Images) -> tuple[str, tuple[int, int]] | None:
    """Write a sample's picture; return its address, and its height and width in pixels, or None if it is empty."""
    sample = _first(key, conditions)
    if sample is None or not sample.image.size:
        return None
    side = min(SIDE, max(sample.image.shape[1:]))
    tile = image_tile(sample.image, side)
    return images.add(photo(tile), "webp"), (tile.shape[0], tile.shape[1])


def _maps(layout: Layout, key: str, conditions: Sequence[Condition], images: Images) -> SampleStrips | None:
    base = _base(key, conditions, images)
    if base is None:
        return None
    address, shape = base
    strips = []
    for condition in conditions:
        reference = _scale(condition.columns.get(0.0, {}).get(key))
        frames, pictures = [], []
        for sparsity in layout.sparsities:
            sample = condition.columns.get(sparsity, {}).get(key)
            picture, scale = _map(sample, max(shape))
            state: State = "missing" if sample is None else "blank" if picture is None else "shown"  # fmt: skip
            strength = f"strength {_times(scale / reference)}" if sparsity and scale and reference else ""
            frames.append(Frame(sparsity, state, _caption(sample, strength)))
            pictures.append(picture)
        file = images.add(overlay(pictures, shape, signed=layout.signed), "webp")
        strips.append(Strip(condition.variant, condition.pruner, condition.recipe, file, tuple(frames)))
    return SampleStrips(_short(key), address, (shape[1], shape[0]), tuple(strips))


def _map(sample: ShownSample | None, side: int) -> tuple[NDArray[np.float64] | None, float]:
    """Return a sample's scaled map with NaN where it is undefined, and its scale; None and 0 without signal."""
    scaled = scaled_map(sample.map) if sample is not None and sample.map is not None and sample.map.size else None
    if scaled is None:
        return None, 0.0
    whole = np.where(scaled.defined, scaled.values, np.nan)
    return fit(whole[..., None], side)[..., 0], scaled.scale


def _scale(sample: ShownSample | None) -> float:
    return _map(sample, 1)[1]


def _times(ratio: float) -> str:
    return f"{number(ratio, 2)} × dense" if ratio >= 0.005 else "< .01 × dense"


def _boxes(layout: Layout, key: str, conditions: Sequence[Condition], images: Images) -> SampleStrips | None:
    base = _base(key, conditions, images)
    if base is None:
        return None
    address, shape = base
    strips = []
    for condition in conditions:
        frames = []
        for sparsity in layout.sparsities:
            sample = condition.columns.get(sparsity, {}).get(key)
            if sample is None:
                frames.append(Frame(sparsity, "missing"))
                continue
            predicted, truth = (_shares(boxes, sample) for boxes in (sample.predicted, sample.truth))
            frames.append(Frame(sparsity, "shown", _caption(sample, overlap_text(predicted, truth)), predicted, truth))
        strips.append(Strip(condition.variant, condition.pruner, condition.recipe, "", tuple(frames)))
    return SampleStrips(_short(key), address, (shape[1], shape[0]), tuple(strips))


def _shares(boxes: NDArray[np.float32] | None, sample: ShownSample) -> tuple[Box, ...]:
    """Return the finite boxes as shares of the picture, clipped to it."""
    height, width = sample.image.shape[1:]
    limits = np.array([width, height, width, height], np.float64)
    listed = [] if boxes is None else [np.clip(box / limits, 0, 1) for box in boxes if np.isfinite(box).all()]
    return tuple((float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in listed[:PLACES])


def overlap_text(predicted: Sequence[Box], truth: Sequence[Box]) -> str:
    """Return the largest IoU of the first predicted box with any true box in words."""
    if not predicted:
        return "no box found"
    if not truth:
        return "no true box"
    return f"IoU {number(max(iou(predicted[0], box) for box in truth), 2)}"


def iou(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes; 0 if both are empty."""
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(width, 0.0) * max(height, 0.0)
    areas = math.fsum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


def _concepts(layout: Layout, key: str, conditions: Sequence[Condition], images: Images) -> SampleStrips | None:
    first = _first(key, conditions)
    if first is None:
        return None
    widest = max(s.image.shape[2] for c in conditions for column in c.columns.values() if (s := column.get(key)))
    strips = []
    for condition in conditions:
        frames, rows = [], []
        for sparsity in layout.sparsities:
            sample = condition.columns.get(sparsity, {}).get(key)
            frames.append(Frame(sparsity, "missing" if sample is None else "shown", _caption(sample)))
            rows.append(None if sample is None else sample.image.transpose(1, 2, 0).astype(np.float64))
        file = images.add(sheet(rows, (CROP, widest)), "webp")
        strips.append(Strip(condition.variant, condition.pruner, condition.recipe, file, tuple(frames)))
    return SampleStrips(_short(key), "", (widest, CROP), tuple(strips))


def _caption(sample: ShownSample | None, further: str = "") -> str:
    own = "" if sample is None else _short(sample.caption)
    return " · ".join(filter(None, (own, further)))


def _short(text: str) -> str:
    return elide(" ".join(text.split()), CAPTION)


Maker = Callable[[Layout, str, Sequence[Condition], Images], "SampleStrips | None"]
MAKERS: Mapping[str, Maker] = {
    "maps": _maps, "boxes": _boxes, "concepts": _concepts,
}  # fmt: skip
"""Makes the strips of one sample, by kind of exhibit; None if the sample is empty."""
