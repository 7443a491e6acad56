"""Convert parquet files to samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pruningbench.contract import EncodedSamples
from pruningbench_data._digests import contents, fingerprint
from pruningbench_data._parquet import Columns, ParquetImages
from pruningbench_data._sampling import Choice


def parquet_samples(
    paths: Sequence[Path],
    split: str,
    columns: Columns,
    *,
    select: Callable[[Sequence[str]], Sequence[int]],
    chosen: Callable[[Sequence[str], Sequence[int], Sequence[str]], Choice],
    remedy: str,
) -> EncodedSamples:
    """Return the samples from a split's files that the data set uses.

    Args:
        paths: the files, in order.
        split: name of the split, with which keys begin.
        columns: names of the image and label columns.
        select: returns the positions of the keys to use, for data without labels.
        chosen: returns these positions and the classes, for data with labels.
        remedy: what to do about an image that cannot be decoded.
    """
    table = ParquetImages(paths, columns)
    keys = [f"{split}-{key}" for key in table.keys]
    labels = None
    classes: tuple[str, ...] = ()
    if columns.label is None:
        rows = select(keys)
    else:
        choice = chosen(keys, table.labels, table.classes)
        rows, classes = list(choice.positions), choice.classes
        labels = torch.tensor(choice.labels, dtype=torch.int64)
    return EncodedSamples(
        [keys[row] for row in rows],
        lambda i: table.image(rows[i]),
        name=lambda i: table.where(rows[i]),
        fingerprint=fingerprint(contents(paths), rows, classes, columns.image, columns.label),
        labels=labels,
        classes=classes,
        remedy=remedy,
    )
