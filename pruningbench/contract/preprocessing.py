"""Preprocessing: from uint8 images of any size to the inputs a network was trained on, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pruningbench.contract.sample import Sample


IN_CACHE = 2
"""Images that are normalised at a time on a CPU, so that they stay in its cache between the steps."""


@dataclass(frozen=True)
class Preprocessing:
    """Turns uint8 images into inputs like those the network was trained on.

    Attributes:
        mean, std: per channel, in units of [0, 1] intensities.
        size: side of the square the network expects: the shorter side is resized to ``size / crop``
            (rounded down, antialiased) and the centre cropped; None keeps images as they are.
        crop: share of the resized side that the centre crop keeps, in (0, 1].
        interpolation: how images are resized.
        squash: resize both sides to ``size / crop`` before the crop, whatever the shape.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None = None
    crop: float = 1.0
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    squash: bool = False

    def fit(self, sample: Sample) -> Sample:
        """Bring a sample's image, boxes and mask to the network's size, all with the same geometry."""
        if self.size is None or tuple(sample.image.shape[-2:]) == (self.size, self.size):
            return sample
        return self._resized_and_cropped(sample, self.size)

    def _resized_and_cropped(self, sample: Sample, size: int) -> Sample:
        import torch
        from torch.nn.functional import interpolate

        height, width = sample.image.shape[-2:]
        new_h, new_w = self._resized(height, width, size)
        top, left = round((new_h - size) / 2), round((new_w - size) / 2)
        # channels last: PyTorch then resizes bytes in two passes as Pillow does, within 2 of 255, and fast
        image = sample.image[None].contiguous(memory_format=torch.channels_last)
        image = interpolate(image, (new_h, new_w), mode=self.interpolation, antialias=True)[0]
        image = image[:, top : top + size, left : left + size].contiguous()
        boxes, mask = sample.boxes, sample.mask
        if boxes is not None:
            boxes = self.fit_boxes(boxes, height, width)
        if mask is not None:
            mask = interpolate(mask[None, None].byte(), (new_h, new_w), mode="nearest-exact")[0, 0].bool()
            mask = mask[top : top + size, left : left + size]
        return replace(sample, image=image, boxes=boxes, mask=mask)

    def fit_boxes(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """Bring (K, 4) boxes of an image of `height` x `width` pixels to the network's size, as `fit` does.

        Boxes that lie outside the crop are dropped.
        """
        if self.size is None or (height, width) == (self.size, self.size):
            return boxes
        new_h, new_w = self._resized(height, width, self.size)
        top, left = round((new_h - self.size) / 2), round((new_w - self.size) / 2)
        stretch = boxes.new_tensor([new_w / width, new_h / height] * 2)
        boxes = (boxes * stretch - boxes.new_tensor([left, top] * 2)).clamp(0, self.size)
        return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]

    def fit_map(self, values: Tensor) -> Tensor:
        """Bring an (H, W) float map of an image's pixels to the network's size, as `fit` does with the image."""
        from torch.nn.functional import interpolate

        height, width = values.shape
        if self.size is None or (height, width) == (self.size, self.size):
            return values
        new_h, new_w = self._resized(height, width, self.size)
        top, left = round((new_h - self.size) / 2), round((new_w - self.size) / 2)
        resized = interpolate(values[None, None], (new_h, new_w), mode="bilinear", antialias=True)[0, 0]
        return resized[top : top + self.size, left : left + self.size]

    def _resized(self, height: int, width: int, size: int) -> tuple[int, int]:
        """Return the sides after resizing, rounded as torchvision and timm round them."""
        short = math.floor(size / self.crop)
        if self.squash:
            return short, short
        if height <= width:
            return short, int(short * width / height)
        return int(short * height / width), short

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 (B, C, H, W) in 0..255 to float32 (x / 255 - mean) / std."""
        mean, std = (_channels(tuple(values), images.device) for values in (self.mean, self.std))
        if images.dtype != _uint8() or images.device.type != "cpu" or images.shape[1] != mean.shape[1]:
            # one channel is broadcast to the mean's three
            return (images.to(_float32(), copy=True).div_(255) - mean).div_(std)
        values = _empty_like(images)
        for some, their in zip(_cut(images), _cut(values), strict=True):
            their.copy_(some).div_(255).sub_(mean).div_(std)  # the same bits, and half of the time
        return values

    def denormalise(self, images: Tensor) -> Tensor:
        """Map normalised float (B, C, H, W) back to intensities in [0, 1]."""
        mean = images.new_tensor(self.mean).view(1, -1, 1, 1)
        std = images.new_tensor(self.std).view(1, -1, 1, 1)
        return (images * std + mean).clamp(0, 1)


@lru_cache(maxsize=64)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return (1, C, 1, 1) float32 values of channels, kept: a copy to a GPU for each batch would wait for its work."""
    import torch

    with torch.inference_mode(False):  # otherwise only inference could use what it had made first
        return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)


def _float32() -> torch.dtype:
    import torch

    return torch.float32


def _uint8() -> torch.dtype:
    import torch

    return torch.uint8


def _cut(images: Tensor) -> Sequence[Tensor]:
    pieces: Sequence[Tensor] = images.split(IN_CACHE)  # type: ignore[no-untyped-call]
    return pieces


def _empty_like(images: Tensor) -> Tensor:
    import torch

    return torch.empty_like(images, dtype=torch.float32)
