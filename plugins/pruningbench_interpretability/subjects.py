"""The images to explain, with their classes and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from pruningbench.contract import Context, PruningBenchError, Samples, VisionModel

if TYPE_CHECKING:
    from pruningbench_interpretability.explaining import ModelExplainer

Which = Literal["all", "correct-dense", "correct", "correct-both"]
Target = Literal["predicted", "dense", "label"]


@dataclass(frozen=True)
class Subjects:
    """The images to explain, on the model's device.

    Attributes:
        images: (N, C, H, W) normalised images.
        predicted: (N,) int64 classes that the model predicts.
        targets: (N,) int64 classes to explain.
        labels: (N,) int64 true classes as positions among the model's classes, -1 for a class that it
            lacks; None for a data set without labels.
        masks: (N, H, W) bool object masks, or None.
        index: N positions in the data set.
    """

    images: Tensor
    predicted: Tensor
    targets: Tensor
    labels: Tensor | None
    masks: Tensor | None
    index: tuple[int, ...]


@torch.no_grad()
def choose(
    model: VisionModel,
    samples: Samples,
    context: Context,
    *,
    which: Which,
    count: int | None,
    target: Target = "predicted",
) -> Subjects:
    """Return the first `count` samples, or those among them that a model classifies correctly.

    Args:
        model: the network to explain.
        samples: the data set.
        context: provides the batch size, and the dense model for ``correct-dense`` and ``dense``.
        which: ``all``; ``correct``: those that `model` classifies correctly; ``correct-dense``: those that
            its dense model classifies correctly, so that the same images are explained at every sparsity;
            ``correct-both``: those that both classify correctly, so that each is compared with its dense map.
        count: number of samples to consider; None = all.
        target: the class to explain: predicted by `model`, predicted by the dense model, or the true one.

    Raises:
        PruningBenchError: for images of several sizes, or a choice that needs labels or a dense model
            that do not exist.
    """
    index = tuple(range(len(samples) if count is None else min(count, len(samples))))
    labels = samples.labels_among(model.classes)
    look = _look_at(model, samples, context, index, labels)
    dense = look.predicted
    if which in ("correct-dense", "correct-both") or target == "dense":
        dense = _dense_predictions(samples, context, index).to(dense.device)
    if target == "dense":
        look = replace(look, targets=dense)
    if which == "all" and target != "label":
        return look
    labels = look.labels
    if labels is None:
        raise PruningBenchError(f"samples={which!r} with target={target!r} needs a data set with labels")
    if target == "label":
        look = replace(look, targets=labels)
    if which == "all":
        return look
    of_dense, own = dense.eq(labels), look.predicted.eq(labels)
    return _only(look, {"correct-dense": of_dense, "correct": own, "correct-both": of_dense & own}[which])


def dense_maps_of(
    dense: ModelExplainer, samples: Samples, context: Context, subjects: Subjects, *, target: Target, count: int | None
) -> Tensor:
    """Return the dense model's (N, H, W) maps of the subjects, computed once for all cells of the task.

    They explain the class that the dense model predicts, or the true one if `target` asks for it.

    Args:
        dense: the method on the dense model.
        samples: the data set.
        context: caches the maps.
        subjects: the result of `choose`.
        target: the `target` passed to `choose`.
        count: the `count` passed to `choose`.
    """

    def make() -> Tensor:
        index = tuple(range(len(samples) if count is None else min(count, len(samples))))
        labels = samples.labels_among(dense.model.classes)
        seen = _look_at(dense.model, samples, context, index, labels)
        targets = seen.labels if target == "label" and seen.labels is not None else seen.predicted
        return dense(seen.images, targets).cpu()

    maps = context.once(("interpretability", "dense maps", dense.method, samples.fingerprint, count), make)
    return maps[list(subjects.index)].to(subjects.images.device)


@torch.no_grad()
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
    predicted = torch.cat([model.logits(batch.images).argmax(dim=1) for batch in batches])
    return Subjects(
        images=images,
        predicted=predicted,
        targets=predicted,
        labels=None if labels is None else labels[list(index)].to(images.device),
        masks=torch.cat(masks) if len(masks) == len(batches) else None,
        index=tuple(index),
    )


def _dense_predictions(samples: Samples, context: Context, index: Sequence[int]) -> Tensor:
    dense = context.dense
    if dense is None:
        raise PruningBenchError(
            "samples='correct-dense' or 'correct-both', and target='dense', need the dense model: this context has none"
        )

    @torch.no_grad()
    def predict() -> Tensor:
        batches = dense.batches(samples, context.batch_size, index=index)
        return torch.cat([dense.logits(batch.images).argmax(dim=1) for batch in batches])

    return context.once(("interpretability", "dense predictions", samples.fingerprint, len(index)), predict)


def _only(subjects: Subjects, selected: Tensor) -> Subjects:
    return Subjects(
        images=subjects.images[selected],
        predicted=subjects.predicted[selected],
        targets=subjects.targets[selected],
        labels=None if subjects.labels is None else subjects.labels[selected],
        masks=None if subjects.masks is None else subjects.masks[selected],
        index=tuple(i for i, keep in zip(subjects.index, selected.tolist(), strict=True) if keep),
    )
