"""Read CIFAR: the binary version of the archive, parquet, and CIFAR-10H's counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pruningbench.contract import ArraySamples, DataError, HumanLabelCounts, one_line, read_file
from pruningbench_data._digests import fingerprint
from pruningbench_data._parquet import Columns, ParquetImages, column_names
from pruningbench_data._sampling import Choice

SIDE = 32
PIXELS = 3 * SIDE * SIDE
COUNTS = (10_000, 10)
LARGEST_BINARY = 2**28
"""Maximum bytes of a binary file, 256 MiB; CIFAR-100's 50,000 images take 154 MB."""
LARGEST_COUNTS = 2**20
"""Maximum bytes of a counts file; CIFAR-10H's has 800,128."""
LONGEST_INDEX = 10
"""A position in the official order must have fewer digits than this, so that it fits an array index."""


@dataclass(frozen=True)
class Images:
    """All images of a split.

    Attributes:
        pixels: returns the (n, 3, 32, 32) uint8 images of n rows.
        labels: N positions in `classes`.
        classes: names of the classes.
        keys: ``SPLIT-INDEX`` with the position in the official order.
        index: N positions in the official order.
    """

    pixels: Callable[[list[int]], NDArray[np.uint8]]
    labels: list[int]
    classes: tuple[str, ...]
    keys: list[str]
    index: list[int]

    def take(self, choice: Choice, counts: NDArray[np.int64] | None = None) -> ArraySamples:
        """Return the chosen samples, with the counts for their rows and classes if given."""
        rows = list(choice.positions)
        samples = ArraySamples(
            torch.from_numpy(self.pixels(rows)),
            torch.tensor(choice.labels, dtype=torch.int64),
            classes=choice.classes,
            keys=[self.keys[row] for row in rows],
        )
        if counts is not None:
            beyond = [self.index[row] for row in rows if self.index[row] >= len(counts)]
            if beyond:
                raise DataError(
                    f"image {beyond[0]} has no counts: the file holds counts for {len(counts)} images "
                    "(column 'index' is wrong)"
                )
            columns = [self.classes.index(name) for name in choice.classes]
            chosen = counts[np.ix_([self.index[row] for row in rows], columns)]
            samples.human = HumanLabelCounts(torch.from_numpy(np.ascontiguousarray(chosen)))
            samples.fingerprint = fingerprint(samples.fingerprint, chosen.tobytes())
        return samples


def read_binary(paths: Sequence[Path], split: str, classes: Sequence[str] | None, label_bytes: int) -> Images:
    """Read files of the binary version: for each image, label bytes, then 3072 bytes of red, green and blue.

    Raises:
        DataError: if a file has the wrong length, or a label is out of range.
    """
    length = label_bytes + PIXELS
    binaries = [path for path in paths if path.suffix == ".bin"]
    rows = []
    for path in binaries:
        content = np.frombuffer(read_file(path, LARGEST_BINARY), dtype=np.uint8)
        if not len(content) or len(content) % length:
            raise DataError(
                f"{path}: {len(content)} bytes are not a multiple of {length}, the size of an image; "
                "fetch the file again"
            )
        rows.append(content.reshape(-1, length))
    table = np.concatenate(rows)
    labels = table[:, label_bytes - 1].astype(int).tolist()
    names = tuple(classes or ())
    if max(labels) >= len(names):
        raise DataError(
            f"{binaries[0]}: label {max(labels)} is out of range for {len(names)} classes; fetch the file again"
        )
    index = list(range(len(labels)))

    def pixels(rows: list[int]) -> NDArray[np.uint8]:
        chosen: NDArray[np.uint8] = table[rows, label_bytes:].reshape(-1, 3, SIDE, SIDE)
        return chosen

    return Images(pixels, labels, names, [f"{split}-{i}" for i in index], index)


def read_parquet(path: Path, split: str, classes: Sequence[str] | None) -> Images:
    """Read a parquet file with an image column (image or img), a label column and optionally ``index``.

    Raises:
        DataError: if a column is missing, or images are not 32 x 32 pixels.
    """
    names = column_names(path)
    image = next((name for name in ("image", "img") if name in names), "image")
    label = next((name for name in ("label", "fine_label") if name in names), "label")
    table = ParquetImages([path], Columns(image, label, "index" if "index" in names else None), classes)
    wrong = [key for key in table.keys if not (key.isascii() and key.isdecimal() and len(key) < LONGEST_INDEX)]
    if wrong:
        raise DataError(
            f"{path}: column 'index' holds {wrong[0][:80]!r}, but must hold positions in the official order"
        )
    index = [int(key) for key in table.keys]

    def pixels(rows: list[int]) -> NDArray[np.uint8]:
        return np.stack([_decoded(table, row) for row in rows])

    return Images(pixels, table.labels, tuple(table.classes), [f"{split}-{i}" for i in index], index)


def _decoded(table: ParquetImages, row: int) -> NDArray[np.uint8]:
    """Return an image as (3, 32, 32)."""
    from pruningbench.images.decode import decode

    try:
        image = decode(table.image(row), upright=False)
    except (OSError, ValueError) as error:  # ValueError: the row holds no image
        raise DataError(f"{table.where(row)}: the image cannot be decoded ({error}); fetch it again") from None
    if image.shape != (SIDE, SIDE, 3):
        raise DataError(f"{table.where(row)}: the image has {image.shape[:2]} pixels, but CIFAR's have 32 x 32")
    return image.transpose(2, 0, 1)


def read_counts(path: Path) -> NDArray[np.int64]:
    """Return CIFAR-10H's (10000, 10) counts, reading the file without unpickling anything.

    Raises:
        DataError: if the file has a different form.
    """
    try:
        counts: Any = np.load(BytesIO(read_file(path, LARGEST_COUNTS)), allow_pickle=False)
        kind = f"{counts.dtype} {counts.shape}"
    except DataError:
        raise
    except Exception as error:  # for a damaged header, NumPy's reader raises nearly anything
        raise DataError(f"{path}: cannot be read as an array ({one_line(error)}); fetch it again") from error
    if counts.dtype.kind not in "iuf" or counts.shape != COUNTS or not np.isfinite(counts).all():
        raise DataError(f"{path}: must hold 10,000 x 10 counts, but holds {kind}; fetch it again")
    if (counts < 0).any() or (counts != np.floor(counts)).any():
        raise DataError(f"{path}: must hold 10,000 x 10 counts, but holds fractional counts in {kind}; fetch it again")
    integers: NDArray[np.int64] = counts.astype(np.int64)
    return integers
