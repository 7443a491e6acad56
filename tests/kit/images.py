"""Small pictures in any format."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def picture(side: int = 40) -> np.ndarray[Any, np.dtype[np.uint8]]:
    grid = np.arange(side, dtype=np.uint8) * 5
    return np.stack([*np.meshgrid(grid, grid), np.full((side, side), 90, np.uint8)], axis=-1)
