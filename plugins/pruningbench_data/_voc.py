"""Read PASCAL VOC: XML boxes and palette masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from pruningbench.contract import DataError, EncodedSamples, one_line, read_text
from pruningbench.images.decode import LARGEST_PIXELS, decode_stored, read_encoded
from pruningbench_data._digests import contents, fingerprint
from pruningbench_data._layouts import inside
from pruningbench_data._names import VOC_CLASSES as CLASSES

VOID = 255
LARGEST_ANNOTATION = 2**22
"""Maximum bytes of an annotation file, 4 MiB; those of VOC have a few thousand."""


def open_voc(
    root: Path,
    names: Sequence[str],
    classes: tuple[str, ...],
    *,
    difficult: bool,
    masks: Literal["boxes", "masks", "filled-boxes"],
    void: Literal["background", "object"],
    select: Callable[[Sequence[str]], Sequence[int]],
    remedy: str,
) -> EncodedSamples:
    """Return the samples of the listed images that show a requested object, within the limit.

    Args:
        root: folder of the year.
        names: names of the listed images.
        classes: classes whose objects count.
        difficult: whether objects marked difficult count among the boxes.
        masks: samples without masks (boxes), with those of SegmentationClass (masks), or with the pixels inside the
            boxes as masks (filled-boxes).
        void: what void pixels of the masks of SegmentationClass count as.
        select: returns the positions of the keys that the data set uses.
        remedy: what to do about an image that cannot be decoded.

    Raises:
        DataError: if an annotation or image is missing or damaged, or no sample is left.
    """
    for name in names:
        inside(root, name, f"{root}: the list of images")
    boxes_by_name = {name: read_boxes(root / f"Annotations/{name}.xml", classes, difficult) for name in names}
    names_with_boxes = [name for name in names if len(boxes_by_name[name])]
    if not names_with_boxes:
        raise DataError(f"{root}: none of the {len(names)} images shows an object of {list(classes)}")
    keys = [names_with_boxes[i] for i in select(names_with_boxes)]
    images = [root / f"JPEGImages/{key}.jpg" for key in keys]
    palettes = [root / f"SegmentationClass/{key}.png" for key in keys] if masks == "masks" else []
    values = [CLASSES.index(name) + 1 for name in classes] + ([VOID] if void == "object" else [])
    boxes = [boxes_by_name[key] for key in keys]
    mask_of: dict[str, Callable[[int], Tensor] | None] = {
        "boxes": None,
        "masks": lambda i: read_mask(palettes[i], values),
        "filled-boxes": lambda i: fill_boxes(boxes[i], *read_size(root / f"Annotations/{keys[i]}.xml")),
    }
    return EncodedSamples(
        keys,
        lambda i: read_encoded(images[i]),
        name=lambda i: str(images[i]),
        fingerprint=fingerprint(
            keys, contents([*images, *palettes]), classes, {"boxes": "", "masks": void}.get(masks, masks),
            [box.numpy().tobytes() for box in boxes],
        ),
        classes=classes,
        boxes=boxes,
        mask=mask_of[masks],
        remedy=remedy,
    )  # fmt: skip


def read_boxes(path: Path, classes: Sequence[str], difficult: bool) -> Tensor:
    """Return the (K, 4) float32 boxes of an annotation's objects, 0-based with exclusive maxima.

    Args:
        path: the XML file.
        classes: the classes whose objects count.
        difficult: whether objects marked difficult count.
    """
    boxes = []
    for number, item in enumerate(_parsed(path).findall("object"), start=1):
        if (item.findtext("name") or "").strip() not in classes:
            continue
        if not difficult and (item.findtext("difficult") or "0").strip() == "1":
            continue
        boxes.append(_corners(item, f"{path}, object {number}"))
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def read_size(path: Path) -> tuple[int, int]:
    """Return the height and width of an annotation's image, in pixels.

    Raises:
        DataError: if the annotation does not state them.
    """
    root = _parsed(path)
    texts = [(root.findtext(f"size/{side}") or "missing").strip()[:10] for side in ("height", "width")]
    # isascii: isdigit alone accepts digits that int does not
    if all(text.isascii() and text.isdigit() for text in texts):
        height, width = int(texts[0]), int(texts[1])
        if 0 < height * width <= LARGEST_PIXELS:
            return height, width
    raise DataError(f"{path}: its size (height, width) is {', '.join(texts)}, which is not that of an image")


def fill_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the (height, width) bool mask of the pixels whose centre lies inside one of the (K, 4) boxes."""
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    mask = torch.zeros(height, width, dtype=torch.bool)
    for left, top, right, bottom in boxes.tolist():
        mask |= ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    return mask


def _parsed(path: Path) -> ElementTree.Element:
    """Return the root of an annotation."""
    try:
        # as text, so that no declared encoding hides this markup
        content = read_text(path, LARGEST_ANNOTATION)
        if "<!DOCTYPE" in content or "<!ENTITY" in content:
            raise DataError(f"{path}: an annotation must not define entities")
        return ElementTree.fromstring(content)  # noqa: S314 - entities, which make parsers explode, are refused above
    except FileNotFoundError:
        raise DataError(f"{path}: the annotation is missing") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: the annotation cannot be read ({one_line(error)})") from None


def _corners(item: ElementTree.Element, where: str) -> list[float]:
    """Return an object's box, 0-based with exclusive maxima, from its 1-based inclusive pixels."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    texts = {side: item.findtext(f"bndbox/{side}", "missing").strip() for side in sides}
    values = []
    for side, text in texts.items():
        try:
            values.append(float(text))
        except ValueError:
            raise DataError(f"{where}: bndbox/{side} is {text[:40]!r}, which is not a number") from None
        if not abs(values[-1]) <= LARGEST_PIXELS:
            raise DataError(f"{where}: bndbox/{side} is {text[:40]!r}, which is not a position in an image")
    if values[2] < values[0] or values[3] < values[1]:
        raise DataError(f"{where}: its box is inverted (xmin, ymin, xmax, ymax are {', '.join(texts.values())})")
    return [values[0] - 1, values[1] - 1, values[2], values[3]]


def read_mask(path: Path, values: Sequence[int]) -> Tensor:
    """Return the (H, W) bool mask of the pixels whose palette index is one of `values`.

    Raises:
        DataError: if the file is missing, is damaged, or holds colours instead of indices.
    """
    try:
        mode, indices = decode_stored(read_encoded(path))
    except FileNotFoundError:
        raise DataError(f"{path}: the mask is missing") from None
    except OSError as error:
        raise DataError(f"{path}: the mask cannot be decoded ({error})") from None
    if mode not in ("P", "L"):
        raise DataError(
            f"{path}: the mask holds colours ({mode}), not palette indices: another program converted it; fetch the "
            "data again"
        )
    return torch.from_numpy(np.isin(indices, values))
