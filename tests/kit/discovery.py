"""A network of patches and scenes with a bright rectangle, for the tests of discovery."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kit.cache import NoCache
from kit.methods import look_up
from pruningbench.contract import (
    ArraySamples,
    ComponentRef,
    Context,
    Samples,
    VisionModel,
)


class Patchy(VisionModel):
    """Patch features are the means of 4 x 4 patches of a grey image: +1 on the object, -1 around it."""

    def patch_features(self, images: Tensor, facet: str = "keys") -> Tensor:
        mean = nn.functional.avg_pool2d(images, 4)
        return torch.cat([mean, torch.full_like(mean, 0.5)], 1)


class PatchEmbed(nn.Module):
    patch_size = (4, 4)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.scale = nn.Parameter(torch.ones(1))


def context(samples: Samples) -> Context:
    def open_dataset(reference: ComponentRef) -> Samples:
        assert reference == "scenes"
        return samples

    return Context(torch.device("cpu"), 0, NoCache(), open_dataset, batch_size=2, component=look_up)


def scenes(count: int, side: int = 30) -> ArraySamples:
    """Dark images with a bright rectangle on the grid of patches of four pixels."""
    images = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    boxes = []
    for i in range(count):
        x, y = 4 * (1 + i % 3), 4 * (2 + i % 2)
        images[i, 0, y : y + 8, x : x + 12] = 255
        boxes.append(torch.tensor([[x, y, x + 12, y + 8]], dtype=torch.float32))
    return ArraySamples(images, boxes=boxes)
