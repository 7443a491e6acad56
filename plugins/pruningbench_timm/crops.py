"""The usual augmentation for ImageNet training: a random resized crop and a flip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class CropAndFlip:
    """Crop each image at random, resize the crop to the image's size (bilinear), and flip some images.

    Sizes and shapes are drawn as in RandomResizedCrop (Szegedy et al., Going deeper with convolutions, 2015): the
    area is uniform in `area`, and the logarithm of the aspect ratio is uniform between those of `aspect`; a crop
    that does not fit is cut down to the image. The crop is taken from what the network sees without augmentation,
    the centre of the resized photograph; the usual loader takes it from the whole photograph.

    Attributes:
        area: smallest and largest share of the image's area, in (0, 1].
        aspect: smallest and largest width over height, > 0.
        flip: probability of a horizontal flip, in [0, 1].
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Map (B, C, H, W) uint8 to the same; all randomness comes from `generator`."""
        batch, _, height, width = images.shape
        draws = torch.rand((5, batch), generator=generator)
        area = self.area[0] + draws[0] * (self.area[1] - self.area[0])
        low, high = (math.log(a) for a in self.aspect)
        aspect = torch.exp(low + draws[1] * (high - low))
        wide = (area * height * width * aspect).sqrt().clamp(max=width) / width
        tall = (area * height * width / aspect).sqrt().clamp(max=height) / height
        across, down = (draws[2] * 2 - 1) * (1 - wide), (draws[3] * 2 - 1) * (1 - tall)
        mirrored = torch.where(draws[4] < self.flip, -wide, wide)
        zero = torch.zeros(batch)
        rows = [torch.stack([mirrored, zero, across], 1), torch.stack([zero, tall, down], 1)]
        grid = affine_grid(torch.stack(rows, 1), [batch, 1, height, width], align_corners=False)
        sampled = grid_sample(images.float(), grid.to(images.device), padding_mode="border", align_corners=False)
        return sampled.round().clamp(0, 255).to(torch.uint8)
