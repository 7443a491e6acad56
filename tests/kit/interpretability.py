"""A small network and its images, for the tests of attribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kit.cache import NoCache
from kit.methods import look_up
from pruningbench.contract import (
    ArraySamples,
    ComponentRef,
    Context,
    Preprocessing,
    Samples,
    VisionModel,
)

CLASSES = ("left", "middle", "right")


class Tiny(VisionModel):
    """A small network on 6 x 6 colour images."""


def tiny(seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Tiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, len(classes))
        )
    return Tiny(network.eval(), Preprocessing((0.5, 0.4), (0.25, 0.5)), classes=classes)


def linear() -> tuple[Tiny, Tensor]:
    """A linear network, and its weights (3, 2, 6, 6)."""
    weight = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3, bias=False))
    network[1].weight.data = weight.flatten(1).clone()
    return Tiny(network.eval(), Preprocessing((0.5, 0.4), (0.25, 0.5)), classes=CLASSES), weight


def context(samples: Samples, dense: VisionModel | None = None, batch_size: int = 4) -> Context:
    def open_dataset(reference: ComponentRef) -> Samples:
        assert reference == "pictures"
        return samples

    return Context(
        torch.device("cpu"), 7, NoCache(), open_dataset, batch_size=batch_size, dense=dense, component=look_up
    )


def pictures(n: int = 6, masks: bool = True, classes: tuple[str, ...] = CLASSES) -> ArraySamples:
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 2, 6, 6), generator=draw, dtype=torch.uint8)
    inside = torch.rand(n, 6, 6, generator=draw) < 0.3
    return ArraySamples(
        images,
        torch.arange(n) % len(classes),
        masks=inside if masks else None,
        classes=classes,
        keys=[f"picture-{i}" for i in range(n)],
    )
