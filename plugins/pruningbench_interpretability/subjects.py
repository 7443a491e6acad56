"""The images to explain, with their classes and masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from pruningbench.contract import Context, PruningBenchError, Samples, VisionModel
from pruningbench_interpretability.mapstore import MapStore

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


@dataclass(frozen=True)
class Choice:
    """Which images to explain, before they are read.

    Attributes:
        which: ``all``; ``correct``: those that the model classifies correctly; ``correct-dense``: those that its dense
            model classifies correctly, so that the same images are explained at every sparsity; ``correct-both``: those
            that both classify correctly, so that each is compared with its dense map.
        count: number of samples to consider; None = all.
        target: the class to explain: predicted by the model, predicted by the dense model, or the true one.
    """

    which: Which
    count: int | None
    target: Target = "predicted"

    def index(self, samples: Samples) -> tuple[int, ...]:
        """Return the positions that are considered."""
        return tuple(range(len(samples) if self.count is None else min(self.count, len(samples))))

    @property
    def needs_labels(self) -> bool:
        """Whether it depends on the true classes."""
        return self.which != "all" or self.target == "label"

    @property
    def needs_dense(self) -> bool:
        """Whether it depends on the dense model's classes."""
        return self.which in ("correct-dense", "correct-both") or self.target == "dense"


@torch.no_grad()
def choose(
    model: VisionModel, samples: Samples, context: Context, choice: Choice, *, most: int | None = None
) -> Iterator[Subjects]:
    """Yield the images to explain, all at once or some at a time.

    Args:
        model: the network to explain.
        samples: the data set.
        context: provides the batch size, and the dense model.
        choice: which images.
        most: number of images at a time, a multiple of the batch size so that batches are the same as if all images
            came at once; None for all.

    Raises:
        PruningBenchError: for images of several sizes, or a choice that needs labels or a dense model
            that do not exist.
    """
    index = choice.index(samples)
    labels = samples.labels_among(model.classes)
    if choice.needs_labels and labels is None:
        raise PruningBenchError(f"samples={choice.which!r} with target={choice.target!r} needs a data set with labels")
    dense = _dense_predictions(samples, context, index) if choice.needs_dense else None
    if most is None or len(index) <= most:
        yield _selected(_look_at(model, samples, context, index, labels), choice, dense)
        return
    if choice.which != "all":  # the images are read twice, so that only those that are explained are held
        seen = torch.cat(list(_predictions(model, samples, context, index)))
        bare = Subjects(torch.empty_like(seen), seen, seen, _at(labels, index, seen.device), None, index)
        considered, index = index, _selected(bare, choice, dense).index
        if not index:  # a collapsed network: the outputs are empty, and of the right shapes
            look = _look_at(model, samples, context, considered[:1], labels)
            yield _only(look, torch.zeros_like(look.predicted, dtype=torch.bool))
            return
    for start in range(0, len(index), most):
        part = index[start : start + most]
        of_dense = None if dense is None else dense[list(part)]
        yield _retarget(_look_at(model, samples, context, part, labels), choice.target, of_dense)


def _selected(look: Subjects, choice: Choice, dense: Tensor | None) -> Subjects:
    """Return those of the first images that are to be explained, with the classes to explain."""
    device = look.predicted.device
    dense = None if dense is None else dense.to(device)
    look = _retarget(look, choice.target, dense)
    if choice.which == "all":
        return look
    labels = look.labels
    assert labels is not None  # noqa: S101 - `choose` has made sure
    keep = torch.ones_like(labels, dtype=torch.bool)
    if choice.which in ("correct", "correct-both"):
        keep &= look.predicted.eq(labels)
    if choice.which in ("correct-dense", "correct-both"):
        assert dense is not None  # noqa: S101 - `choose` has made sure
        keep &= dense.eq(labels)
    return _only(look, keep)


def _retarget(look: Subjects, target: Target, dense: Tensor | None) -> Subjects:
    if target == "dense" and dense is not None:
        return replace(look, targets=dense.to(look.predicted.device))
    if target == "label" and look.labels is not None:
        return replace(look, targets=look.labels)
    return look


def _predictions(model: VisionModel, samples: Samples, context: Context, index: Sequence[int]) -> Iterator[Tensor]:
    for batch in model.batches(samples, context.batch_size, index=index):
        yield model.logits(batch.images).argmax(dim=1)


def dense_maps_of(
    dense: ModelExplainer, samples: Samples, context: Context, subjects: Subjects, choice: Choice
) -> Tensor:
    """Return the dense model's (N, H, W) maps of the subjects, computed once for all cells of the task.

    They explain the class that the dense model predicts, or the true one if the choice asks for it.

    Args:
        dense: the method on the dense model.
        samples: the data set.
        context: caches the maps.
        subjects: what `choose` yielded.
        choice: what it was asked for.
    """
    index = choice.index(samples)
    labels = samples.labels_among(dense.model.classes)

    def explain(part: Sequence[int]) -> Tensor:
        seen = _look_at(dense.model, samples, context, part, labels)
        targets = seen.labels if choice.target == "label" and seen.labels is not None else seen.predicted
        return dense(seen.images, targets).cpu()

    def make() -> MapStore:
        return MapStore(explain, len(index), context.batch_size, context.memory // 4)

    key = ("interpretability", "dense maps", dense.method, samples.fingerprint, choice.count)
    return context.once(key, make).rows(subjects.index).to(subjects.images.device)


@torch.no_grad()
def _look_at(
    model: VisionModel, samples: Samples, context: Context, index: Sequence[int], labels: Tensor | None
) -> Subjects:
    images, predicted, masks = [], [], []
    for batch in model.batches(samples, context.batch_size, index=index):
        images.append(batch.images)
        predicted.append(model.logits(batch.images).argmax(dim=1))
        masks.append(batch.masks)
    sizes = {tuple(batch.shape[1:]) for batch in images}
    if len(sizes) != 1:
        raise PruningBenchError(
            f"saliency maps need at least one image, and all of one size, got {sorted(sizes)}: "
            "give the model's preprocessing a size"
        )
    known = [mask for mask in masks if mask is not None]
    classes = torch.cat(predicted)
    return Subjects(
        images=torch.cat(images),
        predicted=classes,
        targets=classes,
        labels=_at(labels, index, classes.device),
        masks=torch.cat(known) if len(known) == len(images) else None,
        index=tuple(index),
    )


def _at(labels: Tensor | None, index: Sequence[int], device: torch.device) -> Tensor | None:
    return None if labels is None else labels[list(index)].to(device)


def _dense_predictions(samples: Samples, context: Context, index: Sequence[int]) -> Tensor:
    dense = context.dense
    if dense is None:
        raise PruningBenchError(
            "samples='correct-dense' or 'correct-both', and target='dense', need the dense model: this context has none"
        )

    @torch.no_grad()
    def predict() -> Tensor:
        return torch.cat(list(_predictions(dense, samples, context, index)))

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
