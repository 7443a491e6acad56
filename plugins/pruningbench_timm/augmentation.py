"""Training augmentation: digits at random positions, scales and brightness, among fragments of other digits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

COARSE = 5  # side of the grid behind the background's smooth texture


@dataclass(frozen=True)
class SceneAugmentation:
    """Turn a batch of centred digits, bright on black, into digits in scenes.

    Each batch is drawn on a canvas of one of two sizes. A share of its samples stays plain (black background,
    only the digit, at about its own size), so a network learns both plain digits and smaller ones in larger
    scenes. The order of the samples, and thus of their labels, does not change.

    Attributes:
        sizes: canvas sides in pixels; one is drawn at random for each batch.
        sides: smallest and largest side of a digit in a scene, in pixels.
        plain: share of the samples that stay plain.
        rotation: largest rotation in degrees.
        noise: brightest background, in [0, 1); each sample draws its own limit up to this value.
        clutter: fragments of other digits in a scene.
        twin: probability of a second copy of the digit in a scene.
    """

    sizes: tuple[int, ...] = (24, 36)
    sides: tuple[int, int] = (15, 27)
    plain: float = 0.25
    rotation: float = 5.0
    noise: float = 0.35
    clutter: int = 3
    twin: float = 0.4

    @classmethod
    def plain_digits(cls, size: int = 24) -> SceneAugmentation:
        """Return an augmentation that only shifts, scales and rotates digits a little, on a canvas of `size`."""
        return cls(sizes=(size,), plain=1.0, clutter=0)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Map (B, 1, H, W) uint8 to (B, 1, S, S) uint8; all randomness comes from `generator`."""
        batch, own = len(images), images.shape[-1]
        size = self.sizes[int(torch.randint(len(self.sizes), (), generator=generator))]
        ink = images.float() / 255
        scene = _uniform((batch,), 0.0, 1.0, generator) >= self.plain
        gate = scene.float()[:, None, None, None]
        low, high = self.sides
        canvas = self._background(batch, size, generator) * gate
        for _ in range(self.clutter):
            bits = _bits(ink[torch.randperm(batch, generator=generator)], generator)
            side = _uniform((batch,), low, high, generator)
            bright = _uniform((batch, 1, 1, 1), 0.0, 0.6, generator)
            canvas = _paint(canvas, self._place(bits, side, size, generator, anywhere=True) * gate, bright)
        side = torch.where(
            scene, _uniform((batch,), low, high, generator), _uniform((batch,), 0.88, 1.08, generator) * own
        )
        twin = _uniform((batch, 1, 1, 1), 0.0, 1.0, generator) < self.twin
        twin_side = _uniform((batch,), low, 0.5 * (low + high), generator)
        bright = _uniform((batch, 1, 1, 1), 0.75, 1.0, generator)
        bright = torch.where(gate > 0, bright, 1.0)
        canvas = _paint(canvas, self._place(ink, twin_side, size, generator) * twin * gate, bright)
        canvas = _paint(canvas, self._place(ink, side, size, generator), bright)
        return (canvas * 255).round().clamp(0, 255).to(torch.uint8)

    def _background(self, batch: int, size: int, generator: Generator) -> Tensor:
        coarse = _uniform((batch, 1, COARSE, COARSE), 0.0, 1.0, generator)
        smooth = interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
        grain = _uniform((batch, 1, size, size), 0.0, 1.0, generator)
        limit = _uniform((batch, 1, 1, 1), 0.0, self.noise, generator)
        return limit * (0.65 * smooth + 0.35 * grain)

    def _place(self, ink: Tensor, side: Tensor, size: int, generator: Generator, *, anywhere: bool = False) -> Tensor:
        """Draw each image rotated, with a side of `side` pixels, at a random position on the canvas.

        The image stays inside the canvas if it fits, unless its centre may lie `anywhere`.
        """
        batch = len(ink)
        share = side / size
        reach = torch.ones_like(share) if anywhere else (1 - share).abs()
        centre = _uniform((batch, 2), -1.0, 1.0, generator) * reach[:, None]
        angle = _uniform((batch,), -self.rotation, self.rotation, generator) * (math.pi / 180)
        cos, sin = angle.cos() / share, angle.sin() / share
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        shift = -(turn @ centre[:, :, None])  # canvas coordinates -> coordinates of the image
        grid = affine_grid(torch.cat([turn, shift], 2), [batch, 1, size, size], align_corners=False)
        return grid_sample(ink, grid, align_corners=False)


def _bits(ink: Tensor, generator: Generator) -> Tensor:
    """Keep a random square of half the side of each image and blacken the rest."""
    side = ink.shape[-1]
    place = torch.arange(side) + 0.5
    corner = _uniform((len(ink), 2, 1), 0.1, 0.4, generator) * side
    inside = ((place >= corner) & (place < corner + side / 2)).float()
    return ink * inside[:, None, 0, :, None] * inside[:, None, 1, None, :]


def _paint(canvas: Tensor, ink: Tensor, brightness: Tensor) -> Tensor:
    """Cover the canvas in proportion to the ink."""
    return canvas + ink * (brightness - canvas)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low
