"""A network without weights and images with people's answers, for the tests of alignment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kit.cache import NoCache
from pruningbench.contract import ArraySamples, Context, Preprocessing, VisionModel

NAN = float("nan")


class Pixels(VisionModel):
    """Embeds an image as its pixels in [0, 1] and answers with the sums of its rows."""

    def __init__(self, classes: tuple[str, ...] = ("top", "bottom"), scale: float = 1.0):
        super().__init__(nn.Linear(1, 1), Preprocessing((0.0,), (1.0,)), classes=classes)
        self.scale = scale

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1) * self.scale

    def logits(self, images: Tensor) -> Tensor:
        return images.sum(dim=(1, 3)) * self.scale


def context(**data: ArraySamples) -> Context:
    return Context(torch.device("cpu"), 0, NoCache(), lambda reference: data[str(reference)], batch_size=2)


def images(*rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.uint8)[:, None]


def answered(pictures: Tensor, human: object, **more: object) -> ArraySamples:
    samples = ArraySamples(pictures, **more)
    samples.human = human
    return samples


# three images: bright above, bright below, and nearly the first
THREE = images([[255, 250], [0, 0]], [[0, 0], [250, 255]], [[240, 255], [5, 0]])
