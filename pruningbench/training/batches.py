"""The batches of an epoch: shuffled, at the network's size, augmented and normalised."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from pruningbench.contract import Augmentation, Samples, VisionModel
from pruningbench.images.reading_ahead import read_ahead


def epoch_batches(
    model: VisionModel,
    samples: Samples,
    labels: Tensor,
    batch_size: int,
    generator: torch.Generator,
    augment: Augmentation | None = None,
    *,
    skip: int = 0,
    drawn: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one shuffled pass of (normalised images, labels) on the model's device.

    Args:
        model: whose preprocessing and device are used.
        samples: the data.
        labels: (N,) int64 in the model's label space, in the order of the samples.
        batch_size: samples per batch.
        generator: draws the order and the augmentation.
        augment: augmentation of the images, or None.
        skip: leave out so many batches at the beginning.
        drawn: state of the generator after these batches, from which it continues.
    """
    order = torch.randperm(len(samples), generator=generator).tolist()
    if drawn is not None:
        generator.set_state(drawn)
    ranges = batch_ranges(len(order), batch_size)[skip:]
    source = samples.resized(model.preprocessing)
    rest = order[ranges[0].start :] if ranges else []
    fitted = read_ahead(lambda i: model.preprocessing.fit(source[i]).image, rest, source.workers, 2 * batch_size)
    for batch in ranges:
        index = [order[i] for i in batch]
        images = torch.stack(list(islice(fitted, len(index))))
        if augment is not None:
            images = augment(images, generator)
        yield to_device(model, images, labels[index])


def to_device(model: VisionModel, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Copy a batch of uint8 images and its labels to the model's device, and normalise the images there."""
    device = model.device
    if device.type == "cuda":  # the copies then overlap with the network's work
        images, labels = (one if one.is_pinned() else one.pin_memory() for one in (images, labels))
    images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    return model.preprocessing.normalise(images), labels


def batch_ranges(count: int, batch_size: int) -> list[range]:
    """Cut `count` positions into batches; a last batch of one is joined to the one before it."""
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1 and batch_size > 1:
        starts.pop()
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]
