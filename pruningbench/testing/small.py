"""A small model and data, on which recipes, tasks and methods are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import (
    ArraySamples,
    Context,
    Facet,
    Grid,
    Preprocessing,
    PruningContext,
    Sample,
    Samples,
    ScorePruner,
    Use,
    VisionModel,
)
from pruningbench.plugins import Registry
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind
from pruningbench.testing.datasets import load as load_data

SIDE, CHANNELS = 16, 3
PER_CLASS, MOST_CLASSES = 16, 6
"""Samples of each class, and classes, that tasks are run on."""


class SmallModel(VisionModel):
    """A convolutional network with all views but attention."""

    def __init__(self, classes: Sequence[str], channels: int = CHANNELS) -> None:
        with isolated_randomness("small model"):
            network = nn.Sequential(
                nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                nn.Linear(32, len(classes)),
            ).eval()  # fmt: skip
            with torch.no_grad():
                network.get_parameter("7.weight").mul_(20)  # so that images, and batches, make a difference
        preprocessing = Preprocessing((0.5,) * channels, (0.25,) * channels, SIDE)
        super().__init__(network, preprocessing, classes=classes, head=("7.weight", "7.bias"), fingerprint="small")
        self.split = 5

    def _layers(self) -> nn.Sequential:
        assert isinstance(self.network, nn.Sequential)  # noqa: S101 - made above
        return self.network

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 32)."""
        embedded: Tensor = self._layers()[:-1](images)
        return embedded

    def patch_features(self, images: Tensor, facet: Facet = "keys") -> Tensor:
        """(B, C, H, W) -> (B, 8, H, W)."""
        if facet not in ("keys", "tokens"):
            raise self._lacks(facet)
        features: Tensor = self._layers()[: self.split](images)
        return features

    def activation_module(self) -> tuple[nn.Module, Grid]:
        """Return the last rectifier."""
        return self._layers()[self.split - 1], lambda output, _images: output

    def head_split(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return the convolutions, and what follows them."""
        return self._layers()[: self.split], self._layers()[self.split :]


def small_samples(count: int = 48) -> ArraySamples:
    """Return images whose left or right half is bright: class 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (count, CHANNELS, SIDE, SIDE), generator=generator).to(torch.uint8)
    labels = torch.arange(count) % 2
    images[labels == 0, :, :, : SIDE // 2] += 120
    images[labels == 1, :, :, SIDE // 2 :] += 120
    return ArraySamples(images, labels, classes=("left", "right"))


class SmallMagnitude(ScorePruner):
    """Scores weights by their magnitude; it is registered nowhere."""

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return ``|w|``."""
        return {name: parameter.detach().abs() for name, parameter in context.parameters.items()}


class Few(Samples):
    """The first samples of each class of a data set, or the first of all if it has no labels."""

    def __init__(self, samples: Samples) -> None:
        self.samples, self.classes, self.workers = samples, samples.classes, samples.workers
        self.fingerprint = f"few of {samples.fingerprint}"
        labels = samples.labels
        if labels is None:
            self.positions = list(range(min(len(samples), PER_CLASS * MOST_CLASSES)))
        else:
            values = sorted(set(labels.tolist()))[:MOST_CLASSES]
            first = [i for value in values for i in (labels == value).nonzero()[:PER_CLASS, 0].tolist()]
            self.positions = sorted(first)

    @property
    def labels(self) -> Tensor | None:
        """Labels of the chosen samples."""
        labels = self.samples.labels
        return None if labels is None else labels[self.positions]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self.samples[self.positions[index]]


def few(samples: Samples) -> Samples:
    """Return few samples of a data set; all of one with people's answers, which belong to its samples."""
    return samples if samples.human is not None else Few(samples)


def lent(registry: Registry, seed: int = 0, **more: object) -> Context:
    """Return a context as the harness makes it, whose data sets are small."""

    def open_dataset(reference: object) -> Samples:
        return few(load_data(bind(registry, "dataset", reference), registry))

    def component(kind: object, reference: object) -> Use:
        return bind(registry, kind, reference)  # type: ignore[arg-type]

    return Context(torch.device("cpu"), seed, Cache(), open_dataset, component=component, **more)  # type: ignore[arg-type]
