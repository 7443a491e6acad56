"""From parquet files to samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pruningbench.contract import EncodedSamples
from pruningbench_data._digests import contents, fingerprint
from pruningbench_data._parquet import Columns, ParquetImages

if TYPE_CHECKING:
    from pruningbench_data.hub import Hub


def parquet_samples(dataset: Hub, paths: Sequence[Path]) -> EncodedSamples:
    """Return the samples of a split's files that the data set takes."""
    table = ParquetImages(paths, Columns(dataset.image, dataset.label))
    keys = [f"{dataset.split}-{key}" for key in table.keys]
    labels = None
    classes: tuple[str, ...] = ()
    if dataset.label is None:
        rows = dataset.taken(keys)
    else:
        choice = dataset.chosen(keys, table.labels, table.classes)
        rows, classes = list(choice.positions), choice.classes
        labels = torch.tensor(choice.labels, dtype=torch.int64)
    return EncodedSamples(
        [keys[row] for row in rows],
        lambda i: table.image(rows[i]),
        name=lambda i: table.where(rows[i]),
        fingerprint=fingerprint(contents(paths), rows, classes, dataset.image, dataset.label),
        labels=labels,
        classes=classes,
        remedy="fetch the file again" if dataset.repo else "replace the file",
    )
