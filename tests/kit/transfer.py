"""A network of four pixels and images with one bright pixel, for the tests of transfer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kit.cache import NoCache
from pruningbench.contract import (
    ArraySamples,
    ComponentRef,
    Context,
    Preprocessing,
    Samples,
    VisionModel,
)


class Tiny(VisionModel):
    """Flattens 2 x 2 grey images; features are the pixels, the head is linear."""

    embedded = 0

    def embed(self, images: Tensor) -> Tensor:
        self.embedded += len(images)
        return images.flatten(1)


def tiny(classes: tuple[str, ...], weight: Tensor | None = None) -> Tiny:
    head = nn.Linear(4, max(1, len(classes)), bias=False)
    if weight is not None:
        with torch.no_grad():
            head.weight.copy_(weight)
    return Tiny(nn.Sequential(nn.Flatten(), head), Preprocessing((0.0,), (1.0,)), classes=classes)


def context(**data: Samples) -> Context:
    def open_dataset(reference: ComponentRef) -> Samples:
        assert isinstance(reference, str)
        return data[reference]

    return Context(torch.device("cpu"), 0, NoCache(), open_dataset, batch_size=3)


def blobs(labels: list[int], classes: tuple[str, ...], seed: int = 0) -> ArraySamples:
    """Images whose pixel at the position of the class name's number is bright."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (len(labels), 1, 2, 2), generator=draw, dtype=torch.uint8)
    for i, label in enumerate(labels):
        position = int(classes[label][1:])
        images[i, 0, position // 2, position % 2] += 150
    return ArraySamples(images, torch.tensor(labels), classes=classes)
