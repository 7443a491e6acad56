"""A subset of a data set, for rehearsals: the same samples for every machine, model and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from pruningbench.base.identity import content_hash
from pruningbench.base.randomness import generator_for
from pruningbench.contract import Preprocessing, Sample, Samples
from pruningbench.contract.human import (
    HumanDecisions,
    HumanLabelCounts,
    HumanMaps,
    HumanOddOneOut,
    HumanResponses,
    HumanSimilarity,
    HumanTwoAlternatives,
)


def limited(samples: Samples, limit: int) -> Samples:
    """Return at most `limit` samples of a data set, in its order; all of them if it has no more.

    The samples are drawn at random, so that data sorted by class keep all classes. If people judged
    triplets, trials are drawn until their images would exceed `limit`.
    """
    if limit >= len(samples):
        return samples
    drawn = torch.randperm(len(samples), generator=generator_for("limit", len(samples))).tolist()
    index = sorted(drawn[:limit])
    if isinstance(samples.human, (HumanOddOneOut, HumanTwoAlternatives)):
        index = _images_of_trials(samples.human.triplets, limit)
    return LimitedSamples(samples, index)


def _images_of_trials(triplets: Tensor, limit: int) -> list[int]:
    """Return the images of as many triplets as fit into `limit`, and of at least one triplet."""
    images: set[int] = set()
    for trial in torch.randperm(len(triplets), generator=generator_for("limit", len(triplets))).tolist():
        more = images | set(triplets[trial].tolist())
        if images and len(more) > limit:
            break
        images = more
    return sorted(images)


class LimitedSamples(Samples):
    """The samples of another data set at given positions.

    Args:
        source: the other data set.
        index: positions, ascending.
    """

    def __init__(self, source: Samples, index: Sequence[int]) -> None:
        self._source, self._index = source, list(index)
        self.classes, self.workers = source.classes, source.workers
        self.fingerprint = content_hash([str(source.fingerprint), "limit", self._index])
        self.human = None if source.human is None else answers_of(source.human, self._index, len(source))
        self._labels = None if source.labels is None else source.labels[self._index]

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64 labels, or None."""
        return self._labels

    def resized(self, preprocessing: Preprocessing) -> Samples:
        """Return these samples at a network's input size, from the cache of the whole data set."""
        source = self._source.resized(preprocessing)
        return self if source is self._source else LimitedSamples(source, self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self._source[self._index[index]]


def answers_of(human: HumanResponses, index: list[int], count: int) -> HumanResponses:
    """Return people's answers to the samples at `index`, out of `count` samples, renumbered to their new positions."""
    match human:
        case HumanDecisions():
            texture = None if human.texture is None else human.texture[index]
            return replace(
                human, answers=human.answers[:, index], truth=human.truth[index],
                conditions=tuple(human.conditions[i] for i in index), texture=texture,
            )  # fmt: skip
        case HumanLabelCounts():
            return replace(human, counts=human.counts[index])
        case HumanMaps():
            return replace(human, maps=human.maps[index])
        case HumanSimilarity():
            return replace(human, similarity=human.similarity[index][:, index])
        case HumanOddOneOut() | HumanTwoAlternatives():
            return _trials(human, index, count)
        case _:
            return _by_rows(human, index, count)


def _trials(human: HumanOddOneOut | HumanTwoAlternatives, index: list[int], count: int) -> HumanResponses:
    place = torch.full((count,), -1, dtype=torch.int64)
    place[torch.tensor(index)] = torch.arange(len(index))
    triplets = place[human.triplets.long()]
    complete = (triplets >= 0).all(dim=1)
    if isinstance(human, HumanOddOneOut):
        return replace(human, triplets=triplets[complete], odd=human.odd[complete])
    return replace(human, triplets=triplets[complete], right=human.right[complete])


def _by_rows(human: HumanResponses, index: list[int], count: int) -> HumanResponses:
    """Select rows from answers of a type defined elsewhere: every field with one row per sample is cut to `index`."""
    cut: dict[str, Any] = {}
    for field in fields(human):
        value = getattr(human, field.name)
        if isinstance(value, Tensor) and value.ndim and len(value) == count:
            cut[field.name] = value[index]
        elif isinstance(value, tuple) and len(value) == count:
            cut[field.name] = tuple(value[i] for i in index)
    return replace(human, **cut)
