"""Attribution by hiding parts of the image: occlusion and RISE."""

from __future__ import annotations

import torch
from captum.attr import Occlusion
from torch import Tensor
from torch.nn.functional import interpolate

from pruningbench.contract import AttributionSettings, VisionModel, generator_for
from pruningbench_interpretability.settings import split

TOGETHER = 32
"""Random masks held in memory at a time."""
KEPT = 0.5
"""Probability that a cell of a random mask shows the image."""


@torch.no_grad()
def occlusion(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Return how far the target's logit drops when squares over a pixel hide it, (B, H, W) signed, by captum.

    A square is filled with the baseline in all channels; a pixel gets the mean over the squares that cover it.
    Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """
    window = settings.window or max(1, min(images.shape[-2:]) // 8)
    window = min(window, *images.shape[-2:])
    stride = min(settings.stride or max(1, window // 2), window)
    channels = images.shape[1]
    method = Occlusion(model.logits)
    parts = []
    for x, t in split(images, targets, settings.batch_size):
        attribution = method.attribute(
            x,
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            baselines=settings.baseline.expand_as(x),
            target=t,
            perturbations_per_eval=max(1, settings.batch_size // len(x)),
        )
        parts.append(attribution[:, 0])  # the same in every channel
    return torch.cat(parts)


@torch.no_grad()
def rise(model: VisionModel, images: Tensor, targets: Tensor, settings: AttributionSettings) -> Tensor:
    """Return the mean of random masks weighted by the target's probability under them, (B, H, W) >= 0.

    A mask is a random binary grid, enlarged bilinearly and shifted by a random fraction of a cell; hidden pixels are
    0 in normalised units. All images use the same masks. The sum is divided by the number of masks and by the
    probability that a cell is shown.

    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018.
    """
    n, (height, width) = len(images), images.shape[-2:]
    maps = images.new_zeros(n, height * width)
    for start in range(0, settings.masks, TOGETHER):
        count = min(TOGETHER, settings.masks - start)
        masks = random_masks(count, height, width, settings.cells, settings.seed, start).to(images)
        scores = images.new_empty(n * count)
        for pairs in torch.split(torch.arange(n * count, device=images.device), settings.batch_size):
            image, mask = pairs // count, pairs % count
            probabilities = model.logits(images[image] * masks[mask, None]).softmax(dim=1)
            scores[pairs] = probabilities.gather(1, targets[image, None])[:, 0]
        maps += scores.view(n, count) @ masks.flatten(1)
    return maps.view(n, height, width) / (settings.masks * KEPT)


def random_masks(count: int, height: int, width: int, cells: int, seed: int, start: int = 0) -> Tensor:
    """Return (count, height, width) float masks in [0, 1], starting with mask number `start`."""
    cell_h, cell_w = -(-height // cells), -(-width // cells)
    masks = torch.empty(count, height, width)
    for i in range(count):
        draw = generator_for(seed, "rise", start + i)
        grid = (torch.rand(1, 1, cells, cells, generator=draw) < KEPT).float()
        size = ((cells + 1) * cell_h, (cells + 1) * cell_w)
        large = interpolate(grid, size, mode="bilinear", align_corners=False)[0, 0]
        down = int(torch.randint(cell_h, (), generator=draw))
        across = int(torch.randint(cell_w, (), generator=draw))
        masks[i] = large[down : down + height, across : across + width]
    return masks
