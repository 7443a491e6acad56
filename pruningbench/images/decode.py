"""Decoding of image files of any kind to RGB, with limits on what a file may demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.reading import one_line, read_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF")
"""Pillow's names of the decoded formats. It knows others, one of which (EPS) runs another program on the file."""
LARGEST_FILE = 2**28
"""Bytes of the largest encoded image, 256 MiB."""
LARGEST_PIXELS = 2**30 // 4 // 3
"""Pixels of the largest image, 89,478,485, where Pillow begins to warn. Decoding such an image takes 0.7 GB."""
LARGE = 2**24
"""Pixels above which images are decoded one at a time, so that several threads do not multiply the memory."""
MOST_SCANS = 100
"""Maximum scans of a JPEG; each is a pass over the whole image. Progressive files have about 10."""
_SCAN = b"\xff\xda"
_one_large = threading.Lock()


def read_encoded(path: Path) -> bytes:
    """Return the encoded image in a file.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is a pipe, a device or a folder, or larger than `LARGEST_FILE`.
    """
    return read_file(path, LARGEST_FILE)


def decode(content: bytes, *, upright: bool = True) -> NDArray[np.uint8]:
    """Decode an image file to (H, W, 3) uint8 RGB; for an animation, the first frame.

    Grey is repeated, CMYK and palettes are converted, 16 bits are cut to the upper 8, transparency is
    dropped.

    Args:
        content: the content of the file.
        upright: turn the image according to its EXIF orientation.

    Raises:
        OSError: for a truncated, damaged or unknown file, an image of floating-point numbers, whose range is
            unknown, or one of more than `LARGEST_PIXELS` pixels.
    """
    with _opened(content) as image:
        return _array(_rgb(image, upright=upright))


def decode_picture(content: bytes, *, upright: bool = True) -> Image.Image:
    """Decode an image file as `decode` does, to Pillow's image in RGB.

    Raises:
        OSError: as `decode` does.
    """
    with _opened(content) as image:
        return _rgb(image, upright=upright)


def _rgb(image: Image.Image, *, upright: bool) -> Image.Image:
    """Return a decoded image in RGB; it is changed in place where it can be."""
    import numpy as np
    from PIL import Image, ImageOps

    if upright:
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise OSError("it holds floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_stored(content: bytes) -> tuple[str, NDArray[Any]]:
    """Decode an image file without any conversion; return Pillow's name of its mode, and its values.

    The values of modes ``P`` (indices in a palette) and ``L`` (grey) are (H, W) uint8.

    Raises:
        OSError: as `decode` does.
    """
    import numpy as np

    with _opened(content) as image:
        return image.mode, np.array(image)


def _array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the (H, W, 3) bytes of an RGB image; read a large one in bands, because Pillow copies its output twice."""
    import numpy as np

    if image.width * image.height <= LARGE:
        return np.array(image)
    rows = max(1, LARGE // image.width)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(band)
    return pixels


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Yield a decoded image; any failure is an OSError of one line."""
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise OSError("it is empty")
    if content.startswith(b"\xff\xd8") and _scans(content) > MOST_SCANS:
        raise OSError(f"it holds more than {MOST_SCANS} scans")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise OSError(_too_large(image.width, image.height))
            with _one_large if image.width * image.height > LARGE else nullcontext():
                image.load()
                yield image
    except UnidentifiedImageError:
        raise OSError(f"it is not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, or its beginning is damaged") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(f"it exceeds the limit of {LARGEST_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's format readers raise nearly anything for a damaged file
        raise OSError(one_line(error) or type(error).__name__) from error


def _scans(content: bytes) -> int:
    """Return how many markers of a scan a JPEG holds; in a quarter of the time of ``bytes.count``."""
    import numpy as np

    values = np.frombuffer(content, np.uint8)
    return int(np.count_nonzero((values[:-1] == _SCAN[0]) & (values[1:] == _SCAN[1])))


def _too_large(width: int, height: int) -> str:
    return f"its {width} x {height} pixels exceed the limit of {LARGEST_PIXELS:,}; make it smaller"
