"""Planted cases: outputs of a network that is right about everything, and of one that is wrong, type by type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pruningbench.contract import Attributions, Boxes, Features, GroupedPredictions, Outputs, Predictions, ResourceUse

COUNT, CLASSES, SIDE = 6, 3, 12
"""Samples, classes, and pixels of an image's side."""
OBJECT, SHIFT = slice(1, 5), 6
"""Rows and columns of the object of each image, and the distance to a place beside it."""


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _labels() -> Tensor:
    return torch.arange(COUNT) * 7 % CLASSES


def _scores(right: bool) -> Tensor:
    """Return (N, classes) logits that are sure of the true class, or of another one."""
    named = (_labels() + (0 if right else 1)) % CLASSES
    return 6 * torch.nn.functional.one_hot(named, CLASSES) + _noise(COUNT, CLASSES)


def _predictions(right: bool) -> Outputs:
    return Predictions(_scores(right), _labels(), probabilistic=True)


def _grouped(right: bool) -> Outputs:
    return GroupedPredictions(_scores(right).view(3, 2, CLASSES), _labels().view(3, 2))


def _features(right: bool) -> Outputs:
    dense = _noise(2 * COUNT, 5)
    return Features(dense[:COUNT] if right else dense[COUNT:], dense[:COUNT].clone(), _labels())


def _boxes(right: bool) -> Outputs:
    """The object's box, or one beside it."""
    low, high = OBJECT.start, OBJECT.stop
    truth = [torch.tensor([[low, low, high, high]], dtype=torch.float32) for _ in range(COUNT)]
    masks = [torch.zeros(SIDE, SIDE, dtype=torch.bool) for _ in range(COUNT)]
    for mask in masks:
        mask[OBJECT, OBJECT] = True
    if right:
        return Boxes([box.clone() for box in truth], truth, [m.clone() for m in masks], masks, [(SIDE, SIDE)] * COUNT)
    moved = [mask.roll((SHIFT, SHIFT), (0, 1)) for mask in masks]
    return Boxes([box + SHIFT for box in truth], truth, moved, masks, [(SIDE, SIDE)] * COUNT)


def _resources(right: bool) -> Outputs:
    """A fifth of the weights and half the time of the dense network, or all weights and twice the time."""
    dense = torch.full((5,), 0.02, dtype=torch.float64)
    if right:
        return ResourceUse(100, 20, 1000, 200.0, dense / 2, dense, 8, 1_000)
    return ResourceUse(200, 200, 2000, 2000.0, dense * 2, dense, 8, 4_000)


def _attributions(right: bool) -> Outputs:
    """Maps of the object, which alone decides the class, or of a place beside it."""
    images = 0.1 * _noise(COUNT, 3, SIDE, SIDE)
    labels = _labels()
    for image, label in zip(images, labels.tolist(), strict=True):
        image[label, OBJECT, OBJECT] += 2.0
    masks = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.bool)
    masks[:, OBJECT, OBJECT] = True
    maps = masks * (1 + 0.1 * _noise(COUNT, SIDE, SIDE).abs()) + 0.01 * _noise(COUNT, SIDE, SIDE).abs()

    def logits(batch: Tensor) -> Tensor:
        return 2 * batch[:, :, OBJECT, OBJECT].mean((2, 3))

    return Attributions(
        maps if right else maps.roll((SHIFT, SHIFT), (1, 2)), images, labels, lambda batch: logits(batch).softmax(1),
        labels, masks, batch_size=32, index=tuple(range(COUNT)), logits=logits,
    )  # fmt: skip


PLANTED: dict[type[Outputs], Callable[[bool], Outputs]] = {
    Predictions: _predictions, GroupedPredictions: _grouped, Features: _features, Boxes: _boxes,
    ResourceUse: _resources, Attributions: _attributions,
}  # fmt: skip
"""Type of outputs -> a function that makes those of a right (True) or wrong (False) network, the same each time."""


def chosen(outputs: Outputs, index: Sequence[int]) -> Outputs:
    """Return outputs of the samples of `index` alone, in that order: their entries of every field."""
    taken: dict[str, Any] = {}
    for field in dataclasses.fields(outputs):
        value = getattr(outputs, field.name)
        if field.name == "_memo":
            taken[field.name] = {}
        elif isinstance(value, Tensor) and value.ndim and len(value) == outputs.count:
            taken[field.name] = value[list(index)]
        elif isinstance(value, (list, tuple)) and value and len(value) == outputs.count:
            taken[field.name] = type(value)(value[i] for i in index)
    return dataclasses.replace(outputs, **taken)
