"""Tiles: images and maps as small RGB pictures, painted on one canvas."""

from __future__ import annotations

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


def map_tile(values: Array, side: int, *, signed: bool) -> RGB | None:
    """Turn a (H, W) map into (h, w, 3) RGB, or None if it is zero or undefined everywhere.

    The map is divided by the 99th percentile of its absolute values (by their maximum if that percentile is zero), so
    that a few large values do not hide the others. It is then shown in ``inferno`` (black 0, light 1) or, for
    maps that may be negative, in ``RdBu`` (blue -1, white 0, red 1). Undefined pixels are grey.
    """
    import matplotlib

    defined = np.isfinite(values)
    sizes = np.abs(values[defined].astype(np.float64))
    if not sizes.any():
        return None
    scale = float(np.percentile(sizes, 99)) or float(sizes.max())
    scaled = np.where(defined, values / scale, 0.0)
    position = (np.clip(scaled, -1, 1) + 1) / 2 if signed else np.clip(scaled, 0, 1)
    colours = matplotlib.colormaps["RdBu_r" if signed else "inferno"](position)[..., :3]
    colours[~defined] = GREY
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
