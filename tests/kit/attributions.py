"""Published attributions and their network, for the tests of metrics on maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pruningbench.contract import Attributions

DATA = Path(__file__).parents[1] / "data" / "interpretability"
NAN = float("nan")
COMPLEXITY, FAITHFULNESS = np.load(DATA / "complexity.npz"), np.load(DATA / "faithfulness.npz")


def undefined_maps() -> Tensor:
    """A map of zeros, and maps with NaN and infinity."""
    maps = torch.zeros(3, 4, 4)
    maps[1:] = torch.arange(16.0).view(4, 4)
    maps[1, 2, 2], maps[2, 1, 1] = NAN, float("inf")
    return maps


class SmallNetwork(nn.Module):
    """The network of the published deletion curves."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 5, 2, 2), nn.Conv2d(8, 16, 3, 2, 1)
        self.fc = nn.Linear(256, 10)
        state = {name[7:]: torch.from_numpy(FAITHFULNESS[name]) for name in FAITHFULNESS if name[:7] == "weight."}
        self.load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x).relu()).relu()
        return self.fc(nn.functional.avg_pool2d(x, 2).flatten(1)).softmax(1)


def faithfulness_case() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = torch.from_numpy(FAITHFULNESS["images_uint8"]).float() / 255
    images = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    maps = torch.from_numpy(FAITHFULNESS["attributions"])
    return SmallNetwork(), images, maps, torch.from_numpy(FAITHFULNESS["predicted_class"])


def attributions(maps: Tensor, masks: Tensor | None = None, batch_size: int = 3) -> Attributions:
    sizes = []

    def predict(x: Tensor) -> Tensor:
        sizes.append(len(x))
        assert len(x) <= batch_size
        lit = x.mean((1, 2, 3))
        return torch.stack([1 - lit, lit], 1)

    n = len(maps)
    targets = torch.ones(n, dtype=torch.int64)
    return Attributions(maps, torch.ones(n, 1, *maps.shape[1:]), targets, predict, masks=masks, batch_size=batch_size)
