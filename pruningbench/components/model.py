"""Models: a network with its preprocessing, its label space and the four views tasks need."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.components.base import Component, ComponentRef, Kind
from pruningbench.components.dataset import Sample, Samples
from pruningbench.errors import PruningBenchError, ViewUnavailableError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pruningbench.components.context import Context

Augmentation = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""Maps a uint8 (B, C, H, W) batch and a generator to an augmented batch of the same kind."""


@dataclass(frozen=True)
class Preprocessing:
    """From uint8 images to what the network was trained on.

    Attributes:
        mean, std: per channel, in units of [0, 1] intensities.
        size: side of the square the network expects: the shorter side is resized to
            ``size / crop`` (bicubic, antialiased) and the centre cropped; None keeps images as they are.
        crop: share of the resized side that the centre crop keeps, in (0, 1].
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None = None
    crop: float = 1.0

    def fit(self, sample: Sample) -> Sample:
        """Bring a sample's image, boxes and mask to the network's size, all by the same geometry."""
        if self.size is None or tuple(sample.image.shape[-2:]) == (self.size, self.size):
            return sample
        return _resize_and_crop(sample, self.size, self.crop)

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 (B, C, H, W) in 0..255 to float32 (x / 255 - mean) / std."""
        mean = images.new_tensor(self.mean, dtype=_float32()).view(1, -1, 1, 1)
        std = images.new_tensor(self.std, dtype=_float32()).view(1, -1, 1, 1)
        return (images.float() / 255 - mean) / std

    def denormalise(self, images: Tensor) -> Tensor:
        """Map normalised float (B, C, H, W) back to intensities in [0, 1]."""
        mean = images.new_tensor(self.mean).view(1, -1, 1, 1)
        std = images.new_tensor(self.std).view(1, -1, 1, 1)
        return (images * std + mean).clamp(0, 1)


def _float32() -> torch.dtype:
    import torch

    return torch.float32


def _resize_and_crop(sample: Sample, size: int, crop: float) -> Sample:
    import torch
    from torch.nn.functional import interpolate

    height, width = sample.image.shape[-2:]
    scale = round(size / crop) / min(height, width)
    new_h, new_w = max(round(height * scale), size), max(round(width * scale), size)
    top, left = (new_h - size) // 2, (new_w - size) // 2
    image = interpolate(sample.image[None].float(), (new_h, new_w), mode="bicubic", antialias=True)[0]
    image = image[:, top : top + size, left : left + size].round().clamp(0, 255).to(torch.uint8)
    boxes, mask = sample.boxes, sample.mask
    if boxes is not None:
        stretch = boxes.new_tensor([new_w / width, new_h / height] * 2)
        boxes = (boxes * stretch - boxes.new_tensor([left, top] * 2)).clamp(0, size)
        boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    if mask is not None:
        mask = interpolate(mask[None, None].float(), (new_h, new_w), mode="nearest-exact")[0, 0].bool()
        mask = mask[top : top + size, left : left + size]
    return Sample(image, sample.label, boxes, mask, sample.key)


@dataclass(frozen=True)
class Batch:
    """A batch on the device.

    Attributes:
        images: (B, C, H, W) float32, normalised.
        labels: (B,) int64, or None.
        boxes: B tensors (K, 4) in pixels of `images`, or None.
        masks: (B, H, W) bool, or None.
        index: (B,) int64 positions in the data set.
    """

    images: Tensor
    labels: Tensor | None
    boxes: list[Tensor] | None
    masks: Tensor | None
    index: Tensor


class VisionModel:
    """A loaded network and the views tasks take of it.

    Subclasses implement the views for their family; those an architecture lacks raise
    `ViewUnavailableError`.

    Attributes:
        network: the module, in eval mode, on the device.
        preprocessing: how its inputs are made.
        classes: its label space, in the order of the logits; empty for a network without a head.
        head: names of the classifier's parameters.
        augment: the augmentation it was trained with, or None.
        fingerprint: short hash of the dense weights.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        *,
        classes: Sequence[str] = (),
        head: Sequence[str] = (),
        augment: Augmentation | None = None,
        fingerprint: str = "",
    ) -> None:
        self.network = network
        self.preprocessing = preprocessing
        self.classes = tuple(classes)
        self.head = tuple(head)
        self.augment = augment
        self.fingerprint = fingerprint

    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, classes) logits."""
        logits: Tensor = self.network(images)
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, D) features before the classifier."""
        raise self._lacks("embedding")

    def patch_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, D, h, w): last-block keys of a ViT, last stage of a CNN."""
        raise self._lacks("patch-feature")

    def head_split(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return images -> activations >= 0 of the last stage, and those activations -> logits."""
        raise self._lacks("head-split")

    def _lacks(self, view: str) -> ViewUnavailableError:
        return ViewUnavailableError(f"{type(self.network).__name__} has no {view} view")

    def clone(self) -> VisionModel:
        """Return an independent copy (weights, buffers) that may be pruned and trained."""
        twin = copy.copy(self)
        twin.network = copy.deepcopy(self.network)
        return twin

    @property
    def device(self) -> torch.device:
        """Where the network's parameters are."""
        return next(self.network.parameters()).device

    def labels_of(self, samples: Samples) -> Tensor | None:
        """Return a data set's labels in this model's label space, matched by class name.

        Returns:
            (N,) int64 on the CPU, or None for a data set without labels. A model that names no classes
            takes the data set's own numbers.

        Raises:
            PruningBenchError: if the data set has a class that the model lacks.
        """
        if samples.labels is None or not self.classes or not samples.classes:
            return samples.labels
        lacking = [name for name in samples.classes if name not in self.classes]
        if lacking:
            raise PruningBenchError(
                f"label spaces differ: the model has no class {lacking[0]!r} "
                f"({len(lacking)} of the data set's {len(samples.classes)} classes are missing)"
            )
        return samples.labels_among(self.classes)

    def batches(self, samples: Samples, batch_size: int, *, index: Sequence[int] | None = None) -> Iterator[Batch]:
        """Yield the samples in order (or those of `index`), preprocessed for this network.

        Images of different sizes after `Preprocessing.fit` are never put in one batch.
        """
        import torch

        order = list(range(len(samples))) if index is None else [int(i) for i in index]
        start = 0
        while start < len(order):
            chosen: list[Sample] = []
            for position in order[start : start + batch_size]:
                sample = self.preprocessing.fit(samples[position])
                if chosen and sample.image.shape != chosen[0].image.shape:
                    break
                chosen.append(sample)
            positions = torch.tensor(order[start : start + len(chosen)])
            start += len(chosen)
            yield collate(chosen, self.preprocessing, self.device, positions)


def collate(chosen: Sequence[Sample], preprocessing: Preprocessing, device: torch.device, index: Tensor) -> Batch:
    """Stack samples of one size into a batch on `device`; what any sample lacks is None for all."""
    import torch

    images = torch.stack([s.image for s in chosen]).to(device, non_blocking=True)
    labels = [s.label for s in chosen if s.label is not None]
    boxes = [s.boxes for s in chosen if s.boxes is not None]
    masks = [s.mask for s in chosen if s.mask is not None]
    n = len(chosen)
    return Batch(
        images=preprocessing.normalise(images),
        labels=torch.tensor(labels, device=device) if len(labels) == n else None,
        boxes=boxes if len(boxes) == n else None,
        masks=torch.stack(masks).to(device) if len(masks) == n else None,
        index=index,
    )


@dataclass(frozen=True)
class Model(Component, ABC):
    """A model a suite can name: knows how to load a `VisionModel`."""

    kind: ClassVar[Kind] = "model"
    training_data: ClassVar[ComponentRef | None] = None
    """Default data for scoring and fine-tuning, when the suite names none."""

    @abstractmethod
    def load(self, context: Context) -> VisionModel:
        """Build the network with its weights on ``context.device``, in eval mode."""

    def missing(self) -> str | None:
        """Return which weights have to be fetched first, and how, or None if none have."""
        return None
