"""Samples that are decoded when they are read, and copies of them at a network's size, kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from pruningbench.base.files import default_cache_folder
from pruningbench.base.identity import content_hash
from pruningbench.contract.sample import Sample
from pruningbench.contract.samples import Samples
from pruningbench.errors import DataError
from pruningbench.images.decode import decode, decode_picture
from pruningbench.images.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from pruningbench.contract.human import HumanResponses
    from pruningbench.contract.preprocessing import Preprocessing

T = TypeVar("T")
LAYOUT = 1
"""Version of the files; raise it when the content of a row changes."""
_CHANNELS = 3


class EncodedSamples(Samples):
    """Samples whose images are decoded when they are read, ahead of the consumer by worker threads.

    Images are returned as RGB. Without annotations in pixels, they are turned upright according to their EXIF
    entry; boxes and masks refer to images as stored, so images with boxes or masks are not turned.

    Args:
        keys: N identifiers.
        read: returns the encoded image of a sample by its position.
        name: returns the name of a sample in errors, by its position: its path.
        fingerprint: short hash of the content.
        labels: (N,) int64, or None.
        classes: names of the classes, in the order of the labels.
        boxes: N tensors of (K, 4) float32, or None.
        mask: returns the (H, W) bool mask of a sample by its position, or None for data without masks.
        human: human answers, or None.
        remedy: what the user can do about an image that cannot be decoded.
    """

    def __init__(
        self,
        keys: Sequence[str],
        read: Callable[[int], bytes],
        *,
        name: Callable[[int], str],
        fingerprint: str,
        labels: Tensor | None = None,
        classes: Sequence[str] = (),
        boxes: Sequence[Tensor] | None = None,
        mask: Callable[[int], Tensor] | None = None,
        human: HumanResponses | None = None,
        remedy: str = "replace or remove it",
    ) -> None:
        for what, values in (("labels", labels), ("boxes", boxes)):
            if values is not None and len(values) != len(keys):
                raise ValueError(f"{len(keys)} keys but {len(values)} {what}")
        self.keys, self.boxes, self.mask = tuple(keys), boxes, mask
        self.classes, self.fingerprint, self.human = tuple(classes), fingerprint, human
        self.workers = min(8, os.cpu_count() or 1)
        self._labels, self._read, self._name, self._remedy = labels, read, name, remedy
        self._resized: dict[object, Samples] = {}

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64 labels, or None."""
        return self._labels

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        image, mask = self._image(index), None
        if self.mask is not None:
            mask = self.mask(index)
            if mask.shape != image.shape[1:]:
                raise DataError(
                    f"{self._name(index)}: the image has {tuple(image.shape[1:])} pixels, its mask {tuple(mask.shape)}"
                )
        return Sample(
            image=image,
            label=None if self._labels is None else int(self._labels[index]),
            boxes=None if self.boxes is None else self.boxes[index],
            mask=mask,
            key=self.keys[index],
        )

    def picture(self, index: int) -> Image.Image:
        """Return the image of a sample as Pillow's, in RGB and at its own size.

        Raises:
            DataError: if it cannot be decoded.
        """
        return self._decoded(index, decode_picture)

    def _image(self, index: int) -> Tensor:
        import torch

        return torch.from_numpy(self._decoded(index, decode)).permute(2, 0, 1)

    def _decoded(self, index: int, decoder: Callable[..., T]) -> T:
        upright = self.boxes is None and self.mask is None
        try:
            return decoder(self._read(index), upright=upright)
        except FileNotFoundError:
            raise DataError(f"{self._name(index)}: the image no longer exists; {self._remedy}") from None
        except (OSError, ValueError) as error:  # ValueError: a table row without an image
            raise DataError(f"{self._name(index)}: the image cannot be decoded ({error}); {self._remedy}") from None

    def resized(self, preprocessing: Preprocessing) -> Samples:
        """Return these samples at a network's size, each decoded once and kept on disk.

        Without a cache folder, with networks that take any size, or if the cache would be too large
        (see `pruningbench.images.rows`), samples are decoded each time.
        """
        key = tuple(sorted(geometry(preprocessing).items()))
        if key not in self._resized:
            self._resized[key] = ResizedSamples.open(self, preprocessing) or self
        return self._resized[key]


def geometry(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the settings that determine the resized bytes: all except mean and standard deviation."""
    return {name: value for name, value in asdict(preprocessing).items() if name not in ("mean", "std")}


class ResizedSamples(Samples):
    """Samples at a network's size. Use `open` to make one."""

    def __init__(self, source: EncodedSamples, preprocessing: Preprocessing, rows: Rows) -> None:
        self._source, self._preprocessing, self._rows = source, preprocessing, rows
        self.classes, self.fingerprint, self.human = source.classes, source.fingerprint, source.human
        self.workers = source.workers

    @classmethod
    def open(cls, source: EncodedSamples, preprocessing: Preprocessing) -> ResizedSamples | None:
        """Open or create the cache of `source` at this size; return None if there can be none."""
        import PIL

        size = preprocessing.size
        if size is None or not len(source):
            return None
        identity = {"layout": LAYOUT, "source": source.fingerprint, "pillow": PIL.__version__,
                    "masks": source.mask is not None, **geometry(preprocessing)}  # fmt: skip
        layers = _CHANNELS + (source.mask is not None)
        path = default_cache_folder() / "images" / content_hash(identity, length=32)
        rows = Rows.open(path, len(source), layers, size)
        return None if rows is None else cls(source, preprocessing, rows)

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64 labels, or None."""
        return self._source.labels

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        row = self._rows.read(index)
        if row is None:
            sample = self._source[index]
            height, width = sample.image.shape[-2:]
            fitted = self._preprocessing.fit(sample)
            self._rows.write(index, _pack(fitted), height, width)
            return fitted
        import torch

        labels, boxes = self._source.labels, self._source.boxes
        layers = torch.from_numpy(row.layers)
        return Sample(
            image=layers[:_CHANNELS],
            label=None if labels is None else int(labels[index]),
            boxes=None if boxes is None else self._preprocessing.fit_boxes(boxes[index], row.height, row.width),
            mask=layers[_CHANNELS].bool() if self._source.mask is not None else None,
            key=self._source.keys[index],
        )


def _pack(sample: Sample) -> NDArray[np.uint8]:
    """Return image and mask as (layers, size, size) bytes."""
    import torch

    layers = sample.image if sample.mask is None else torch.cat([sample.image, sample.mask[None].to(torch.uint8)])
    packed: NDArray[np.uint8] = layers.contiguous().numpy()
    return packed
