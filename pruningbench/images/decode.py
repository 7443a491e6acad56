"""Decoding of image files of any kind to RGB."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def decode(content: bytes, *, upright: bool = True) -> NDArray[np.uint8]:
    """Decode an image file of any kind to (H, W, 3) uint8 RGB.

    Grey is repeated, CMYK and palettes are converted, 16 bits are cut to the upper 8, transparency is
    dropped.

    Args:
        content: the file.
        upright: turn the image as its EXIF orientation says.

    Raises:
        OSError: for a truncated or unknown file.
    """
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(BytesIO(content)) as file:
        image: Image.Image = file
        image.load()
        if upright:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or image.mode == "I":
            grey = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return np.array(image.convert("RGB"))
