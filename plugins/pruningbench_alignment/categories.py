"""Mapping from a network's classes to the categories that people chose from.

The 16 categories of Geirhos et al., Generalisation in humans and deep neural networks, NeurIPS 2018, are
nodes of WordNet; each represents the unambiguous ImageNet classes below it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruningbench.contract import PruningBenchError
from pruningbench.contract.labels import imagenet_classes

_SIXTEEN: dict[str, str] = {
    "airplane": "404",
    "bear": "294-297",
    "bicycle": "444 671",
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
    "boat": "472 554 625 814 914",
    "bottle": "440 720 737 898-899 901 907",
    "car": "436 511 817",
    "cat": "281-286",
    "chair": "423 559 765 857",
    "clock": "409 530 892",
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385-386",
    "keyboard": "508 878",
    "knife": "499",
    "oven": "766",
    "truck": "555 569 656 675 717 734 864 867",
}
"""Positions among ImageNet's 1000 classes, as single numbers and inclusive ranges."""

SIXTEEN_CATEGORIES = tuple(_SIXTEEN)
"""The 16 categories in alphabetical order."""


def imagenet_indices(category: str) -> tuple[int, ...]:
    """Return the positions among ImageNet's 1000 classes that one of the 16 categories represents.

    Raises:
        KeyError: for any other category.
    """
    ends = [[int(end) for end in part.split("-")] for part in _SIXTEEN[category].split()]
    return tuple(i for part in ends for i in range(part[0], part[-1] + 1))


def decisions_16(probabilities: Tensor) -> list[str]:
    """Return each image's category: the one with the largest mean probability over its ImageNet classes.

    Equal means go to the category that comes first in the alphabet.

    Args:
        probabilities: (B, 1000) softmax probabilities, in the order of ImageNet's classes.

    Returns:
        B names of the 16 categories; "" for an image with a NaN among its probabilities, as from a
        collapsed network.

    Raises:
        ValueError: for any other shape.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != 1000:
        raise ValueError(f"probabilities must be (B, 1000) over ImageNet's classes, got {tuple(probabilities.shape)}")
    columns = [torch.tensor(imagenet_indices(category)) for category in SIXTEEN_CATEGORIES]
    chosen, _ = decide(probabilities, columns)
    return [SIXTEEN_CATEGORIES[i] if i >= 0 else "" for i in chosen.tolist()]


def decide(probabilities: Tensor, columns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Choose among categories by the mean probability of their classes.

    Args:
        probabilities: (B, classes).
        columns: for each category, the positions of its classes.

    Returns:
        (B,) int64 positions of the categories chosen, -1 where a probability is NaN, and (B, categories)
        float64 mean probabilities.
    """
    exact = probabilities.double().cpu()
    means = torch.stack([exact[:, column].mean(dim=1) for column in columns], dim=1)
    return means.argmax(dim=1).masked_fill(exact.isnan().any(dim=1), -1), means


def class_columns(classes: Sequence[str], categories: Sequence[str]) -> list[Tensor]:
    """Return the positions of each category's classes in a network's label space.

    If the network's classes include the categories themselves, those are used. ImageNet's classes, identified by
    their WordNet ids in any order, represent the 16 categories of Geirhos et al.

    Raises:
        PruningBenchError: for a network with neither kind of classes; the message names what is missing.
    """
    position = {name: i for i, name in enumerate(classes)}
    if not position:
        raise PruningBenchError("the network names no classes, so its answers cannot be compared with people's")
    if all(category in position for category in categories):
        return [torch.tensor([position[category]]) for category in categories]
    ids = imagenet_classes()
    mapped = [[ids[i] for i in imagenet_indices(c)] if c in _SIXTEEN else [] for c in categories]
    for category, names in zip(categories, mapped, strict=True):
        if not names or not all(name in position for name in names):
            lacking = next((name for name in names if name not in position), category)
            raise PruningBenchError(
                f"the network cannot answer with {category!r}: it has no class {lacking!r} among its {len(classes)} "
                f"({', '.join(map(repr, classes[:3]))}, ...); it needs the categories themselves or ImageNet's classes"
            )
    return [torch.tensor([position[name] for name in names]) for names in mapped]
