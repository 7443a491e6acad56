"""A network and images that it learns in a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import ArraySamples, Preprocessing, VisionModel
from pruningbench.training.settings import FitSettings


def toy_samples(n: int = 96) -> ArraySamples:
    """Images whose left or right half is bright: label 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (n, 1, 6, 6), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % 2
    images[labels == 0, :, :, :3] += 120
    images[labels == 1, :, :, 3:] += 120
    return ArraySamples(images, labels, classes=("left", "right"))


def toy_model() -> VisionModel:
    with isolated_randomness("toy"):
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(144, 2),
        )
    return VisionModel(network.eval(), Preprocessing((0.5,), (0.25,)), classes=("left", "right"))


def quick(**changes: Any) -> FitSettings:
    return FitSettings(**{"epochs": 3, "lr": 0.05, "batch_size": 16, **changes})
