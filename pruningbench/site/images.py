"""Pictures of the site: small files with names made from their content, up to a limit for the whole site."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pruningbench.leaderboard.tiles import map_colours
from pruningbench.site.files import File

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
FOLDER = "img"
"""Folder of the pictures in the site."""
LARGEST = 64 << 20
"""Most bytes of all pictures of a site together."""
LEVELS = 48
"""Number of colours of a map: more would double the size of the file, and no reader could tell them apart."""
SMALL = 80
"""Pictures up to this side in pixels are stored without loss, because they are shown enlarged."""
QUALITY = 85
UNDEFINED = (128, 128, 128, 200)
"""Colour (RGBA) of the undefined pixels of a map."""


class Images:
    """Collects the pictures of a site and counts their bytes.

    Args:
        largest: most bytes of all pictures together.

    Attributes:
        refused: number of pictures that were left out because the limit was reached.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._room = largest
        self._known: set[str] = set()
        self._new: list[File] = []
        self.refused = 0

    def add(self, content: bytes, kind: Literal["webp", "png"]) -> str:
        """Add a picture; return its address relative to the site, or "" if it would exceed the limit.

        Its name is a hash of its content, so equal pictures are one file.
        """
        address = f"{FOLDER}/{hashlib.sha256(content).hexdigest()[:20]}.{kind}"
        if address in self._known:
            return address
        if len(content) > self._room:
            self.refused += 1
            return ""
        self._room -= len(content)
        self._known.add(address)
        self._new.append(File(address, content))
        return address

    def files(self) -> list[File]:
        """Return the pictures that were added since the last call."""
        files, self._new = self._new, []
        return files


def photo(pixels: NDArray[np.float64]) -> bytes:
    """Encode (h, w, 3) RGB in [0, 1] as WebP."""
    from PIL import Image

    whole: Pixels = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    return _webp(Image.fromarray(whole), lossless=max(whole.shape[:2]) <= SMALL)


def overlay(frames: Sequence[NDArray[np.float64] | None], shape: tuple[int, int], *, signed: bool) -> bytes:
    """Encode maps side by side as one WebP that lies over their image: the larger a value, the less transparent.

    Args:
        frames: scaled maps (h, w) in [-1, 1], NaN = undefined; None leaves its place transparent.
        shape: height and width of each frame in pixels; maps of other shapes are stretched.
        signed: whether colours range from -1 to 1 or from 0 to 1.
    """
    from PIL import Image

    colours = palette(signed=signed)
    empty = np.zeros((*shape, 4), np.uint8)
    row = [empty if f is None else _coloured(stretched(f, shape), colours, signed=signed) for f in frames]
    return _webp(Image.fromarray(np.concatenate(row, axis=1)), lossless=True)


def palette(*, signed: bool) -> Pixels:
    """Return the (LEVELS, 4) RGBA colours of an overlay from the smallest to the largest value."""
    low = -1.0 if signed else 0.0
    values = np.linspace(low, 1, LEVELS)
    colours = map_colours(values, signed=signed)
    colours[:, 3] = np.abs(values) ** 0.6
    return (colours * 255).round().astype(np.uint8)


def scale_bar(*, signed: bool) -> bytes:
    """Encode the colours of maps, from the smallest to the largest value, as a bar of one row."""
    from PIL import Image

    values = np.linspace(-1.0 if signed else 0.0, 1, LEVELS)
    row = (map_colours(values, signed=signed)[None, :, :3] * 255).round().astype(np.uint8)
    return _webp(Image.fromarray(row), lossless=True)


def sheet(rows: Sequence[NDArray[np.float64] | None], shape: tuple[int, int]) -> bytes:
    """Encode pictures (h, w, 3) RGB in [0, 1] below each other as one WebP; None leaves its place grey.

    Args:
        rows: the pictures; smaller ones are filled up with grey on the right and below.
        shape: height and width of each place.
    """
    places = []
    for row in rows:
        place = np.full((*shape, 3), 0.5)
        if row is not None:
            height, width = min(shape[0], row.shape[0]), min(shape[1], row.shape[1])
            place[:height, :width] = row[:height, :width]
        places.append(place)
    return photo(np.concatenate(places))


def stretched(values: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return (h, w, ...) values at another height and width: the nearest pixels."""
    for axis, size in enumerate(shape):
        if values.shape[axis] != size:
            values = values.take(np.arange(size) * values.shape[axis] // size, axis=axis)
    return values


def _coloured(values: NDArray[np.float64], colours: Pixels, *, signed: bool) -> Pixels:
    defined = np.isfinite(values)
    position = np.where(defined, (values + 1) / 2 if signed else values, 0.0)
    levels = (np.clip(position, 0, 1) * (len(colours) - 1)).round().astype(np.int64)
    pixels = colours[levels]
    pixels[~defined] = UNDEFINED
    return pixels


def _webp(picture: Image.Image, *, lossless: bool) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=lossless, quality=QUALITY, method=4, exact=False)
    return buffer.getvalue()
