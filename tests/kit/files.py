"""Tiny data in the standard layouts, for the tests of data sets."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from pruningbench.contract import Dataset, Samples


def opened(dataset: Dataset) -> Any:
    assert dataset.problem() is None
    return dataset.load(None)  # type: ignore[arg-type]


def save(path: Path, value: int = 0, size: tuple[int, int] = (6, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size[::-1], 3), value, dtype=np.uint8)).save(path)
    return path


def class_folders(root: Path, counts: dict[str, int]) -> None:
    value = 0
    for name, count in counts.items():
        for i in range(count):
            save(root / name / f"{i}.png", value)
            value += 1


def shown(samples: Samples) -> list[int]:
    return [int(sample.image[0, 0, 0]) for sample in samples]


def cifar_images(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def binary(images: np.ndarray[Any, Any], *labels: Sequence[int]) -> bytes:
    return b"".join(bytes(lead) + image.tobytes() for image, *lead in zip(images, *labels, strict=True))


def png_table(images: np.ndarray[Any, Any], labels: list[int], **columns: list[int]) -> pyarrow.Table:
    def png(image: np.ndarray[Any, Any]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "PNG")
        return buffer.getvalue()

    return pyarrow.table({"image": [{"bytes": png(i), "path": None} for i in images], "label": labels, **columns})
