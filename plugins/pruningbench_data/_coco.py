"""Read COCO's boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from pruningbench.contract import (
    DataError,
    EncodedSamples,
    default_cache_folder,
    one_line,
    read_json,
    read_text,
    write_whole,
)
from pruningbench.images.decode import LARGEST_PIXELS, read_encoded
from pruningbench_data._digests import contents, fingerprint
from pruningbench_data._layouts import inside
from pruningbench_data._names import COCO_ANNOTATIONS as ANNOTATIONS
from pruningbench_data._names import COCO_LIST as LIST

LARGEST_ANNOTATIONS = 2**29
"""Maximum bytes of an annotation file, 512 MiB; COCO's own have up to 470 MB."""


def open_coco(
    folder: Path, *, crowd: bool, select: Callable[[Sequence[str]], Sequence[int]], remedy: str
) -> EncodedSamples:
    """Return the listed images with their boxes, within the limit.

    Args:
        folder: folder with the list, the annotations and the images.
        crowd: whether boxes around crowds count.
        select: returns the positions of the keys that the data set uses.
        remedy: what to do about an image that cannot be decoded.

    Raises:
        DataError: if the list or the annotations cannot be read, or an image is missing.
    """
    paths = [line.strip() for line in read_text(folder / LIST).splitlines() if line.strip()]
    for line in paths:
        inside(folder, line, str(folder / LIST))
    boxes_by_path = boxes_of(folder / ANNOTATIONS, paths, crowd)
    paths_with_boxes = [path for path in paths if len(boxes_by_path[path])]
    if not paths_with_boxes:
        raise DataError(f"{folder / LIST}: none of the {len(paths)} images listed has a box in {ANNOTATIONS}")
    keys = [paths_with_boxes[i] for i in select(paths_with_boxes)]
    images, boxes = [folder / key for key in keys], [boxes_by_path[key] for key in keys]
    return EncodedSamples(
        [PurePosixPath(key).name for key in keys],
        lambda i: read_encoded(images[i]),
        name=lambda i: str(images[i]),
        fingerprint=fingerprint(keys, contents(images), [box.numpy().tobytes() for box in boxes]),
        boxes=boxes,
        remedy=remedy,
    )


def boxes_of(path: Path, images: Sequence[str], crowd: bool) -> dict[str, Tensor]:
    """Return for each listed image its (K, 4) float32 boxes.

    Parsing COCO's file takes long, so the boxes of these images are kept in the cache folder.
    """
    cached = default_cache_folder() / "coco" / f"{fingerprint(contents([path]), images, crowd)}.json"
    try:
        return _tensors(read_json(cached, LARGEST_ANNOTATIONS), images)
    except (OSError, DataError, LookupError, TypeError, ValueError, RuntimeError):  # missing or damaged
        rows = _parse(path, images, crowd)
        with suppress(OSError):  # the next run parses again
            write_whole(cached, json.dumps(rows).encode())
        return _tensors(rows, images)


def _tensors(rows: Mapping[str, Any], images: Sequence[str]) -> dict[str, Tensor]:
    return {name: torch.tensor(rows[name], dtype=torch.float32).reshape(-1, 4) for name in images}


def _parse(path: Path, images: Sequence[str], crowd: bool) -> dict[str, list[list[float]]]:
    content: Any = read_json(path, LARGEST_ANNOTATIONS)
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        rows: dict[str, list[list[float]]] = {PurePosixPath(name).name: [] for name in images}
        for place, note in enumerate(content["annotations"]):
            boxes = rows.get(names.get(note["image_id"], ""))
            x, y, width, height = _box(note, f"{path}: annotation {note.get('id', f'number {place}')}")
            if boxes is not None and width > 0 and height > 0 and (crowd or not note.get("iscrowd", 0)):
                boxes.append([x, y, x + width, y + height])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is not COCO's instances file ({type(error).__name__}: {one_line(error)})") from None
    known_images = set(names.values())
    unknown = [name for name in images if PurePosixPath(name).name not in known_images]
    if unknown:
        raise DataError(f"{path}: has no image {unknown[0]!r}, which {LIST} lists")
    return {name: rows[PurePosixPath(name).name] for name in images}


def _box(note: Mapping[str, Any], where: str) -> Sequence[float]:
    """Return the x, y, width and height of an annotation; the box may have no area, but must not be inverted."""
    box = note["bbox"]
    numbers = isinstance(box, list) and all(type(value) in (int, float) for value in box)
    if not numbers or len(box) != 4 or not all(abs(value) <= LARGEST_PIXELS and isfinite(value) for value in box):
        raise DataError(
            f"{where}: bbox is {str(box)[:80]}, but must be four numbers x, y, width, height within an image"
        )
    if box[2] < 0 or box[3] < 0:
        raise DataError(f"{where}: bbox {box} is inverted: width and height must be at least 0")
    sides: Sequence[float] = box
    return sides
