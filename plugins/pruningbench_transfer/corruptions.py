"""Common corruptions of images, in batches on the images' device.

The kinds, and their strengths at five severities, are those of Hendrycks and Dietterich, Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations (ICLR 2019), for images of 224 pixels (ImageNet-C) and
of 32 pixels (CIFAR-10-C). pruningbench implements them from the definitions: noises have the same distributions but
different draws; the others equal the published ones up to rounding (results are rounded to 8 bits where the originals
truncate). ``gaussian-blur`` is one of that paper's extra corruptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

STRENGTHS: dict[str, dict[str, tuple[float, ...]]] = {
    "imagenet": {
        "gaussian-noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation
        "shot-noise": (60, 25, 12, 5, 3),  # photons at full intensity
        "impulse-noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of values
        "gaussian-blur": (1, 2, 3, 4, 6),  # standard deviation in pixels
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # factor
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value of HSV
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # factor of the sides
        "jpeg": (25, 18, 15, 10, 7),  # quality
    },
    "cifar": {
        "gaussian-noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot-noise": (500, 250, 100, 75, 50),
        "impulse-noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "gaussian-blur": (0.4, 0.6, 0.7, 0.8, 1),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg": (80, 65, 58, 50, 40),
    },
}
KINDS = tuple(STRENGTHS["imagenet"])


def corrupt(images: Tensor, kind: str, strength: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Return corrupted images, rounded to 8 bits.

    Args:
        images: (B, C, H, W) float intensities in [0, 1]; C is 1 (grey) or 3 (RGB).
        kind: one of `KINDS`.
        strength: its strength, see `STRENGTHS`.
        generators: B CPU generators, one per image, so that an image's noise depends neither on its batch nor on
            the device. Only the noises draw from them.

    Returns:
        (B, C, H, W) uint8 on the images' device.
    """
    changed = _CORRUPTIONS[kind](images, strength, generators)
    return (changed * 255).round().clamp(0, 255).to(torch.uint8)


def gaussian_noise(images: Tensor, deviation: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Add normal noise."""
    return images + deviation * _drawn(images, generators, lambda x, g: torch.randn(x.shape, generator=g))


def shot_noise(images: Tensor, photons: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Replace each intensity by a Poisson count with `photons` at full intensity."""
    rates = images.float().cpu() * photons  # at once: a copy from a GPU waits for its work
    return _drawn(rates, generators, lambda x, g: torch.poisson(x, generator=g) / photons).to(images)


def impulse_noise(images: Tensor, share: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Set a share of the values to 0 or 1, with equal probability."""
    draws = _drawn(images, generators, lambda x, g: torch.rand(x.shape, generator=g))
    return torch.where(draws < share / 2, 0.0, torch.where(draws < share, 1.0, images))


def _drawn(
    images: Tensor, generators: Sequence[torch.Generator], draw: Callable[[Tensor, torch.Generator], Tensor]
) -> Tensor:
    drawn = [draw(image, generator) for image, generator in zip(images, generators, strict=True)]
    return torch.stack(drawn).to(images)


def gaussian_blur(images: Tensor, deviation: float, _generators: Sequence[torch.Generator] = ()) -> Tensor:
    """Blur with a Gaussian truncated at four standard deviations; edge values extend outside the image."""
    radius = int(4 * deviation + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = (-0.5 * (steps / deviation) ** 2).exp()
    kernel = (kernel / kernel.sum()).to(images)
    flat = images.flatten(0, 1)[:, None]
    flat = conv2d(pad(flat, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    flat = conv2d(pad(flat, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1))
    return flat.view_as(images)


def contrast(images: Tensor, factor: float, _generators: Sequence[torch.Generator] = ()) -> Tensor:
    """Move all values towards the mean of their channel."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * factor + mean


def brightness(images: Tensor, added: float, _generators: Sequence[torch.Generator] = ()) -> Tensor:
    """Raise the value of HSV, at most to 1; hue and saturation stay the same."""
    value = images.amax(dim=1, keepdim=True)
    raised = (value + added).clamp(0, 1)
    return torch.where(value > 0, images * (raised / torch.where(value > 0, value, 1.0)), raised)


def pixelate(images: Tensor, factor: float, _generators: Sequence[torch.Generator] = ()) -> Tensor:
    """Shrink both sides by box averages and enlarge them again."""
    for dimension in (3, 2):
        side = images.shape[dimension]
        small = max(int(side * factor), 1)
        there_and_back = _box(small, side) @ _box(side, small)
        images = (images.transpose(dimension, 3) @ there_and_back.T.to(images)).transpose(dimension, 3)
    return images


def _box(side: int, new: int) -> Tensor:
    """Return (new, side) weights that resize a line by averaging the pixels whose centres lie in each new pixel.

    A new pixel smaller than the old ones takes the nearest one.
    """
    scale = side / new
    support = max(scale, 1.0) / 2
    weights = torch.zeros(new, side)
    for i in range(new):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), side)
        weights[i, first:last] = 1 / (last - first)
    return weights


def jpeg(images: Tensor, quality: float, _generators: Sequence[torch.Generator] = ()) -> Tensor:
    """Compress as JPEG; see `pruningbench_transfer.jpeg`."""
    from pruningbench_transfer.jpeg import compressed

    return compressed(images, math.floor(quality))


_CORRUPTIONS: dict[str, Callable[[Tensor, float, Sequence[torch.Generator]], Tensor]] = {
    "gaussian-noise": gaussian_noise,
    "shot-noise": shot_noise,
    "impulse-noise": impulse_noise,
    "gaussian-blur": gaussian_blur,
    "contrast": contrast,
    "brightness": brightness,
    "pixelate": pixelate,
    "jpeg": jpeg,
}
