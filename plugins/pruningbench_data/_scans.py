"""The scans behind the digit data sets: load, split and enlarge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Split = Literal["train", "test", "all"]

FULL_INK = 16.0  # darkest value of a scan
TEST_EVERY = 3
KEYS_A = -0.5  # parameter of Keys' cubic kernel; this value gives Catmull-Rom's


@dataclass(frozen=True)
class Scans:
    """All scans of the source.

    Attributes:
        ink: (1797, 8, 8) share of ink, in [0, 1].
        digits: (1797,) digit that each scan shows.
    """

    ink: Floats
    digits: NDArray[np.int64]


@cache
def load_scans() -> Scans:
    """Load the scans from the copy that scikit-learn ships; nothing is downloaded."""
    from sklearn.datasets import load_digits

    source: Any = load_digits()
    ink = np.asarray(source.images, dtype=np.float64) / FULL_INK
    digits = np.asarray(source.target, dtype=np.int64)
    ink.flags.writeable = digits.flags.writeable = False
    return Scans(ink, digits)


def rows_of(split: Split, classes: Sequence[int], limit: int | None = None) -> list[int]:
    """Return the rows of a split that show one of `classes`, in ascending order.

    With a limit, the first scans of each class are kept, equally many per class; if the limit does not divide
    evenly, the classes named first get one more.
    """
    by_class = [_rows_of_digit(split, digit) for digit in classes]
    if limit is not None:
        turns = [(turn, place) for place, rows in enumerate(by_class) for turn in range(len(rows))]
        chosen = sorted(turns)[:limit]
        return sorted(by_class[place][turn] for turn, place in chosen)
    return sorted(row for rows in by_class for row in rows)


def _rows_of_digit(split: Split, digit: int) -> list[int]:
    rows: list[int] = np.flatnonzero(load_scans().digits == digit).tolist()
    if split == "all":
        return rows
    is_test = [place % TEST_EVERY == TEST_EVERY - 1 for place in range(len(rows))]
    return [row for row, test in zip(rows, is_test, strict=True) if test == (split == "test")]


def enlarge(images: Floats, size: int | tuple[int, int]) -> Floats:
    """Resize (..., h, w) images by bicubic interpolation, clamped to [0, 1].

    Pixels are areas (half-pixel centres), and edges are repeated. R. Keys, Cubic convolution interpolation
    for digital image processing, IEEE TASSP 29(6), 1981, with a = -1/2. It only suits enlarging, since it does
    no antialiasing.
    """
    height, width = (size, size) if isinstance(size, int) else size
    rows, columns = _kernel(images.shape[-2], height), _kernel(images.shape[-1], width)
    resized: Floats = np.clip(rows @ images @ columns.T, 0.0, 1.0)
    return resized


@cache
def _kernel(source: int, target: int) -> Floats:
    """Return the (target, source) matrix of interpolation weights along one axis; its rows sum to 1."""
    centre = (np.arange(target) + 0.5) * source / target - 0.5
    first = np.floor(centre).astype(int) - 1
    weights = np.zeros((target, source))
    for tap in range(4):
        distance = np.abs(centre - (first + tap))
        inner = (KEYS_A + 2) * distance**3 - (KEYS_A + 3) * distance**2 + 1
        outer = KEYS_A * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        value = np.where(distance <= 1, inner, np.where(distance < 2, outer, 0.0))
        np.add.at(weights, (np.arange(target), np.clip(first + tap, 0, source - 1)), value)
    return weights


def to_bytes(intensities: Floats) -> Bytes:
    """Round intensities in [0, 1] to 0..255, halves up.

    The margin also rounds up halves that arithmetic left slightly too low, so the bytes, and thus a data set's
    fingerprint, do not depend on a machine's order of additions.
    """
    rounded: Bytes = np.floor(np.clip(intensities, 0.0, 1.0) * 255 + 0.5 + 1e-6).astype(np.uint8)
    return rounded
