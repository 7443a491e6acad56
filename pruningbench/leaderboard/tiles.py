"""Tiles: images and maps as small RGB pictures, painted on one canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pruningbench.leaderboard.exhibits import Array

RGB = NDArray[np.float64]

GREY = 0.72
"""Grey level for maps without signal and for undefined pixels."""


def image_tile(image: Array, side: int) -> RGB:
    """Turn a (C, H, W) image in [0, 1] into (h, w, 3) RGB that fits a square of `side` pixels.

    A single channel is shown as grey; two channels, or more than three, are averaged and shown as grey.
    """
    channels = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if len(channels) != 3:
        channels = channels.mean(axis=0, keepdims=True).repeat(3, axis=0)
    return fit(np.clip(channels.transpose(1, 2, 0), 0, 1), side)


@dataclass(frozen=True)
class ScaledMap:
    """A map divided by its scale.

    Attributes:
        values: (H, W) float64 in [-1, 1]; 0 where the map is undefined.
        defined: (H, W) bool, False where the map is undefined.
        scale: the 99th percentile of the map's absolute values, or their maximum if that percentile is zero; > 0.
    """

    values: RGB
    defined: NDArray[np.bool_]
    scale: float


def scaled_map(values: Array) -> ScaledMap | None:
    """Divide a (H, W) map by its 99th percentile and clip it to [-1, 1]; None if it is zero or undefined everywhere.

    The percentile (see `ScaledMap.scale`) keeps a few large values from hiding the others.
    """
    defined = np.isfinite(values)
    sizes = np.abs(values[defined].astype(np.float64))
    if not sizes.any():
        return None
    scale = float(np.percentile(sizes, 99)) or float(sizes.max())
    return ScaledMap(np.clip(np.where(defined, values / scale, 0.0), -1, 1), defined, scale)


def map_colours(values: NDArray[np.float64], *, signed: bool) -> NDArray[np.float64]:
    """Return (..., 4) RGBA for scaled values.

    The colours are ``inferno`` (black 0, light 1) or, for maps that may be negative, ``RdBu`` (blue -1,
    white 0, red 1).
    """
    import matplotlib

    position = (values + 1) / 2 if signed else np.clip(values, 0, 1)
    colours: NDArray[np.float64] = matplotlib.colormaps["RdBu_r" if signed else "inferno"](position)
    return colours


def map_tile(values: Array, side: int, *, signed: bool) -> RGB | None:
    """Turn a (H, W) map into (h, w, 3) RGB, or None if it is zero or undefined everywhere.

    See `scaled_map` for the scale and `map_colours` for the colours. Undefined pixels are grey.
    """
    scaled = scaled_map(values)
    if scaled is None:
        return None
    colours = map_colours(scaled.values, signed=signed)[..., :3]
    colours[~scaled.defined] = GREY
    return fit(colours, side)


def fit(picture: RGB, side: int) -> RGB:
    """Scale (H, W, 3) so that its longer side has `side` pixels: nearest pixels to enlarge, means to shrink."""
    longest = max(picture.shape[:2])
    for axis in (0, 1):
        old = picture.shape[axis]
        new = max(1, round(old * side / longest))
        starts = np.arange(new) * old // new
        if new >= old:
            picture = picture.take(starts, axis=axis)
        else:
            counts = np.diff([*starts, old]).reshape(-1, *(1,) * (2 - axis))
            picture = np.add.reduceat(picture, starts, axis=axis) / counts
    return picture
