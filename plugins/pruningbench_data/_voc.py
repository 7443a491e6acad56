"""Reading PASCAL VOC: XML boxes and palette masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruningbench.contract import DataError, EncodedSamples
from pruningbench_data._digests import contents, fingerprint
from pruningbench_data._names import VOC_CLASSES as CLASSES

VOID = 255


def open_voc(
    root: Path,
    names: Sequence[str],
    wanted: tuple[str, ...],
    *,
    difficult: bool,
    void: Literal["background", "object"] | None,
    taken: Callable[[Sequence[str]], Sequence[int]],
    remedy: str,
) -> EncodedSamples:
    """Return the samples of a list of image names that show an object asked for, within the limit.

    Args:
        root: folder of the year.
        names: images of the list.
        wanted: classes whose objects count.
        difficult: whether objects marked difficult count among the boxes.
        void: what void pixels of the masks count as; None for samples without masks.
        taken: returns the positions of the keys that the data set takes.
        remedy: what to do about an image that cannot be decoded.

    Raises:
        DataError: for an annotation or image that lacks or is damaged, or where no sample is left.
    """
    found = {name: read_boxes(root / f"Annotations/{name}.xml", wanted, difficult) for name in names}
    shown = [name for name in names if len(found[name])]
    if not shown:
        raise DataError(f"{root}: none of the {len(names)} images shows an object of {list(wanted)}")
    keys = [shown[i] for i in taken(shown)]
    images = [root / f"JPEGImages/{key}.jpg" for key in keys]
    masks = [root / f"SegmentationClass/{key}.png" for key in keys] if void is not None else []
    values = [CLASSES.index(name) + 1 for name in wanted] + ([VOID] if void == "object" else [])
    boxes = [found[key] for key in keys]
    return EncodedSamples(
        keys,
        lambda i: images[i].read_bytes(),
        name=lambda i: str(images[i]),
        fingerprint=fingerprint(
            keys, contents([*images, *masks]), wanted, void if masks else "",
            [box.numpy().tobytes() for box in boxes],
        ),
        classes=wanted,
        boxes=boxes,
        mask=(lambda i: read_mask(masks[i], values)) if masks else None,
        remedy=remedy,
    )  # fmt: skip


def read_boxes(path: Path, classes: Sequence[str], difficult: bool) -> Tensor:
    """Return the (K, 4) float32 boxes of an annotation's objects, 0-based with exclusive maxima.

    Args:
        path: the XML file.
        classes: the classes whose objects count.
        difficult: whether those marked difficult count.
    """
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise DataError(f"{path}: an annotation must not define entities")
        tree = ElementTree.fromstring(content)  # noqa: S314 - entities, which make parsers explode, are refused above
        boxes = []
        for thing in tree.findall("object"):
            if (thing.findtext("name") or "").strip() not in classes:
                continue
            if not difficult and (thing.findtext("difficult") or "0").strip() == "1":
                continue
            corners = [float(thing.findtext(f"bndbox/{side}", "missing")) for side in ("xmin", "ymin", "xmax", "ymax")]
            boxes.append([corners[0] - 1, corners[1] - 1, corners[2], corners[3]])
    except FileNotFoundError:
        raise DataError(f"{path}: the annotation lacks") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: the annotation cannot be read ({error})") from None
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def read_mask(path: Path, values: Sequence[int]) -> Tensor:
    """Return the (H, W) bool mask of the pixels whose palette index is one of `values`.

    Raises:
        DataError: if the file lacks, is damaged, or holds colours in place of indices.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise DataError(
                    f"{path}: the mask holds colours ({image.mode}), not palette indices: it was converted by "
                    "some tool; fetch the data again"
                )
            indices = np.array(image)
    except FileNotFoundError:
        raise DataError(f"{path}: the mask lacks") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: the mask cannot be decoded ({error})") from None
    return torch.from_numpy(np.isin(indices, values))
