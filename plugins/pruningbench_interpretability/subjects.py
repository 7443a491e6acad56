"""Which images are explained, and what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pruningbench.components import Context, Samples, VisionModel
from pruningbench.errors import PruningBenchError

Which = Literal["all", "correct-dense", "correct"]


@dataclass(frozen=True)
class Subjects:
    """The images to explain, on the model's device.

    Attributes:
        images: (N, C, H, W) normalised.
        predicted: (N,) int64 classes that the model predicts.
        labels: (N,) int64 positions among the model's classes, -1 for a class that it lacks; None for
            a data set without labels.
        masks: (N, H, W) bool, or None.
        index: N positions in the data set.
    """

    images: Tensor
    predicted: Tensor
    labels: Tensor | None
    masks: Tensor | None
    index: tuple[int, ...]


@torch.no_grad()
def choose(model: VisionModel, samples: Samples, context: Context, *, which: Which, count: int | None) -> Subjects:
    """Return the first `count` samples, or those among them that a model classifies correctly.

    Args:
        model: the network to explain.
        samples: the data set.
        context: lends the batch size, and the dense model for ``correct-dense``.
        which: ``all``; ``correct``: by `model`; ``correct-dense``: by the dense model it came from, so
            that the same images are explained at every sparsity.
        count: number of samples to look at; None = all.

    Raises:
        PruningBenchError: for images of several sizes, or a choice that needs labels or a dense model
            where there are none.
    """
    index = tuple(range(len(samples) if count is None else min(count, len(samples))))
    labels = samples.labels_among(model.classes)
    everything = _look_at(model, samples, context, index, labels)
    if which == "all":
        return everything
    if everything.labels is None:
        raise PruningBenchError(f"samples={which!r} needs a data set with labels")
    predicted = everything.predicted
    if which == "correct-dense":
        predicted = _dense_predictions(samples, context, index).to(predicted.device)
    return _only(everything, predicted.eq(everything.labels))


def _look_at(
    model: VisionModel, samples: Samples, context: Context, index: Sequence[int], labels: Tensor | None
) -> Subjects:
    batches = list(model.batches(samples, context.batch_size, index=index))
    sizes = {tuple(batch.images.shape[1:]) for batch in batches}
    if len(sizes) != 1:
        raise PruningBenchError(
            f"saliency maps need at least one image, and all of one size, got {sorted(sizes)}: "
            "give the model's preprocessing a size"
        )
    masks = [batch.masks for batch in batches if batch.masks is not None]
    images = torch.cat([batch.images for batch in batches])
    return Subjects(
        images=images,
        predicted=torch.cat([model.logits(batch.images).argmax(dim=1) for batch in batches]),
        labels=None if labels is None else labels[list(index)].to(images.device),
        masks=torch.cat(masks) if len(masks) == len(batches) else None,
        index=tuple(index),
    )


def _dense_predictions(samples: Samples, context: Context, index: Sequence[int]) -> Tensor:
    dense = context.dense
    if dense is None:
        raise PruningBenchError("samples='correct-dense' needs the dense model, which this context lacks")

    def predict() -> Tensor:
        batches = dense.batches(samples, context.batch_size, index=index)
        return torch.cat([dense.logits(batch.images).argmax(dim=1) for batch in batches])

    return context.once(("interpretability", "dense predictions", samples.fingerprint, len(index)), predict)


def _only(subjects: Subjects, wanted: Tensor) -> Subjects:
    return Subjects(
        images=subjects.images[wanted],
        predicted=subjects.predicted[wanted],
        labels=None if subjects.labels is None else subjects.labels[wanted],
        masks=None if subjects.masks is None else subjects.masks[wanted],
        index=tuple(i for i, keep in zip(subjects.index, wanted.tolist(), strict=True) if keep),
    )
