"""A network without weights and images with people's answers, for the tests of alignment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kit.cache import NoCache
from pruningbench.contract import (
    ArraySamples,
    Context,
    Dataset,
    HumanDecisions,
    HumanLabelCounts,
    HumanMaps,
    HumanOddOneOut,
    HumanSimilarity,
    HumanTwoAlternatives,
    Preprocessing,
    VisionModel,
    param,
)

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


@dataclass(frozen=True)
class Judged(Dataset):
    """Toy images with people's answers."""

    form: str = param("decisions", doc="which answers")

    def load(self, context: Context) -> ArraySamples:
        from toybench_parts import ToyData

        samples = ToyData("test", 24).load(context)
        generator = torch.Generator().manual_seed(5)
        noisy = torch.where(torch.rand(3, 24, generator=generator) < 0.2, 1 - samples.labels, samples.labels)
        if self.form == "decisions":
            samples.human = HumanDecisions(("dark", "bright"), ("a", "b", "c"), noisy, samples.labels, ("x", "y") * 12)
        elif self.form == "counts":
            samples.human = HumanLabelCounts(torch.stack([(noisy == i).sum(dim=0) for i in (0, 1)], dim=1))
        elif self.form == "similarity":
            samples.human = HumanSimilarity((samples.labels[:, None] == samples.labels).float())
        elif self.form == "maps":
            samples.human = HumanMaps(torch.rand(24, *samples.images.shape[2:], generator=generator))
        else:
            triplets = torch.stack([torch.randperm(24, generator=generator)[:3] for _ in range(20)])
            odd = torch.zeros(20, dtype=torch.int64)
            alike = HumanTwoAlternatives(triplets, torch.rand(20, generator=generator))
            samples.human = alike if self.form == "alternatives" else HumanOddOneOut(triplets, odd)
        return samples
