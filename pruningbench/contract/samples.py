"""Loaded data sets: a sequence of samples, with labels, classes and a fingerprint of the content."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pruningbench.contract.sample import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.human import HumanResponses
    from pruningbench.contract.preprocessing import Preprocessing


class Samples(ABC, Sequence[Sample]):
    """A loaded data set.

    Attributes:
        classes: names of the classes, in the order of the labels.
        fingerprint: short hash of the content; results on different fingerprints are never ranked
            together.
        human: human answers to these images, or None.
        workers: threads that read samples ahead of the consumer; 0 for samples in memory.
    """

    classes: tuple[str, ...] = ()
    fingerprint: str = ""
    human: HumanResponses | None = None
    workers: int = 0

    @property
    @abstractmethod
    def labels(self) -> Tensor | None:
        """(N,) int64 labels of all samples, known without decoding an image; None if there are none."""

    def resized(self, preprocessing: Preprocessing) -> Samples:
        """Return these samples at a network's size, from a cache if reading them is slow; unchanged here.

        ``preprocessing.fit`` maps the returned samples to the same results as these, bit for bit.
        """
        del preprocessing
        return self

    def labels_among(self, classes: Sequence[str]) -> Tensor | None:
        """Return the labels as positions in `classes`, matched by class name, never by number.

        Returns:
            (N,) int64 on the CPU, -1 for samples of a class that `classes` lacks; None without labels or
            class names.
        """
        import torch

        if self.labels is None or not self.classes:
            return None
        position = {name: i for i, name in enumerate(classes)}
        table = torch.tensor([position.get(name, -1) for name in self.classes], dtype=torch.int64)
        return table[self.labels.long().cpu()]


class ArraySamples(Samples):
    """Samples held in memory as arrays.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64, or None.
        boxes: N tensors of (K, 4) float32, or None.
        masks: (N, H, W) bool, or None.
        classes: names of the classes, in the order of the labels.
        keys: N identifiers; the samples' indices by default.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        boxes: Sequence[Tensor] | None = None,
        masks: Tensor | None = None,
        classes: Sequence[str] = (),
        keys: Sequence[str] | None = None,
    ) -> None:
        self.images, self._labels, self.boxes, self.masks = images, labels, boxes, masks
        self.classes = tuple(classes)
        self.keys = tuple(keys) if keys is not None else tuple(str(i) for i in range(len(images)))
        for name, values in (("labels", labels), ("boxes", boxes), ("masks", masks), ("keys", self.keys)):
            if values is not None and len(values) != len(images):
                raise ValueError(f"{len(images)} images but {len(values)} {name}")
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        sha = hashlib.sha256()
        for array in (self.images, self._labels, *(self.boxes or ()), self.masks):
            if array is not None:
                sha.update(f"{tuple(array.shape)}{array.dtype}".encode())
                sha.update(array.contiguous().numpy().tobytes())
        sha.update("\0".join((*self.classes, "|", *self.keys)).encode())
        return sha.hexdigest()[:16]

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64 labels, or None."""
        return self._labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return Sample(
            image=self.images[index].clone(),  # so that a caller cannot change the data set
            label=None if self._labels is None else int(self._labels[index]),
            boxes=None if self.boxes is None else self.boxes[index],
            mask=None if self.masks is None else self.masks[index],
            key=self.keys[index],
        )
