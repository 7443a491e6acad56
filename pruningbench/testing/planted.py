"""Planted cases: outputs of a network that is right about everything, and of one that is wrong, type by type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pruningbench.contract import (
    Attributions,
    Boxes,
    Concepts,
    Features,
    GroupedPredictions,
    HumanDecisions,
    HumanLabelCounts,
    HumanOddOneOut,
    HumanResponses,
    HumanTwoAlternatives,
    Outputs,
    Predictions,
    ResourceUse,
    Responses,
)
from pruningbench.harness.limited import answers_of

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


def _decisions(right: bool) -> Outputs:
    """Categories of images with conflicting cues: the shape's, as two of three people say, or another one."""
    truth = _labels()
    others = (truth + 1) % CLASSES
    people = torch.stack([truth, truth, others])
    people[0, 0], people[2, 1] = others[0], truth[1]  # so that nobody agrees with anybody on everything
    names = tuple(f"category {i}" for i in range(CLASSES))
    human = HumanDecisions(names, ("a", "b", "c"), people, truth, ("only",) * COUNT, texture=(truth + 2) % CLASSES)
    return Responses(people[1].clone() if right else people[1].roll(1), human)


def _label_counts(right: bool) -> Outputs:
    """Most people choose the true class, and the network is as sure as they are, or sure of another class."""
    counts = torch.nn.functional.one_hot(_labels(), CLASSES) * 40 + 5
    shares = counts.double() / counts.sum(1, keepdim=True)
    return Responses(_labels(), HumanLabelCounts(counts), shares if right else shares.roll(1, 1))


def _triplets() -> Tensor:
    return torch.stack([torch.arange(COUNT), torch.arange(COUNT) + 1, torch.arange(COUNT) + 2], 1)


def _odd_one_out(right: bool) -> Outputs:
    odd = _labels()
    return Responses(odd.clone() if right else (odd + 1) % 3, HumanOddOneOut(_triplets(), odd))


def _alternatives(right: bool) -> Outputs:
    shares = torch.linspace(0.0, 1.0, COUNT)
    sure = (shares > 0.5).long()
    answers = sure if right else 1 - sure
    probabilities = torch.nn.functional.one_hot(answers, 2).double()
    return Responses(answers, HumanTwoAlternatives(_triplets(), shares), probabilities)


PER_CONCEPT = 10
"""Images of a class that show each of its concepts."""


def _concepts(right: bool) -> Outputs:
    """Three concepts for each of two classes, each in ten crops that look alike; or in crops of the other class."""
    each, per_class = 3, 3 * PER_CONCEPT
    classes = torch.arange(2).repeat_interleave(each)
    crop_classes = torch.arange(2).repeat_interleave(per_class)
    shown = torch.arange(2 * per_class) % each + each * crop_classes
    embeddings = torch.nn.functional.one_hot(shown, 2 * each) + 0.1 * _noise(2 * per_class, 2 * each)
    true = torch.nn.functional.one_hot(shown, 2 * each).float()
    true += 0.01 * _noise(2 * per_class, 2 * each).abs()
    corners = torch.zeros(2 * per_class, 2)
    found = Concepts(
        torch.eye(2 * each), classes, torch.tensor([0.6, 0.3, 0.1, 0.5, 0.3, 0.2], dtype=torch.float64), true,
        crop_classes, torch.arange(2 * per_class), torch.cat([corners, corners + SIDE], 1), embeddings, 2,
    )  # fmt: skip
    if right:
        return dataclasses.replace(found, dense=found)
    blocks = torch.arange(2 * per_class) // PER_CONCEPT  # crops of different concepts
    mixed = torch.nn.functional.one_hot(blocks, 2 * each).float()
    mixed = 0.5 * mixed + mixed.roll(each, 1) + 0.01 * _noise(2 * per_class, 2 * each).abs()
    turned = torch.eye(2 * each) * 0.6 + torch.eye(2 * each).roll(each, 1) * 0.8
    return dataclasses.replace(found, directions=turned, coefficients=mixed, dense=found)


PLANTED: dict[type[Outputs], tuple[Callable[[bool], Outputs], ...]] = {
    Predictions: (_predictions,), GroupedPredictions: (_grouped,), Features: (_features,), Boxes: (_boxes,),
    ResourceUse: (_resources,), Attributions: (_attributions,), Concepts: (_concepts,),
    Responses: (_decisions, _label_counts, _odd_one_out, _alternatives),
}  # fmt: skip
"""Type of outputs -> functions that make those of a right (True) or wrong (False) network, the same each time.

A type that holds several forms of answers has one function for each form.
"""


def chosen(outputs: Outputs, index: Sequence[int]) -> Outputs:
    """Return outputs of the samples of `index` alone, in that order: their entries of every field."""
    taken: dict[str, Any] = {}
    for field in dataclasses.fields(outputs):
        value = getattr(outputs, field.name)
        if field.name == "_memo":
            taken[field.name] = {}
        elif isinstance(value, HumanResponses):
            taken[field.name] = _people(value, index, outputs.count or 0)
        elif isinstance(value, Tensor) and value.ndim and len(value) == outputs.count:
            taken[field.name] = value[list(index)]
        elif isinstance(value, (list, tuple)) and value and len(value) == outputs.count:
            taken[field.name] = type(value)(value[i] for i in index)
    return dataclasses.replace(outputs, **taken)


def _people(human: HumanResponses, index: Sequence[int], count: int) -> HumanResponses:
    """Return people's answers to some trials; those to triplets are trials, all others belong to images."""
    match human:
        case HumanOddOneOut():
            return dataclasses.replace(human, triplets=human.triplets[list(index)], odd=human.odd[list(index)])
        case HumanTwoAlternatives():
            return dataclasses.replace(human, triplets=human.triplets[list(index)], right=human.right[list(index)])
        case _:
            return answers_of(human, list(index), count)
