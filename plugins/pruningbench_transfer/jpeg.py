"""The lossy part of JPEG compression, without the lossless coding: batched, on the images' device.

It follows ITU-T Recommendation T.81 (1992) with the tables of its Annex K, the colour transform of JFIF 1.02, the
Independent JPEG Group's scaling of the tables by quality, and chroma halved in both directions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
"""Rows: luma and the two chroma differences, as weights of RGB."""


def compressed(images: Tensor, quality: int) -> Tensor:
    """Return images after JPEG compression and decompression.

    Args:
        images: (B, C, H, W) float intensities in [0, 1]; C is 1 (grey) or 3 (RGB).
        quality: 1 to 100.

    Returns:
        (B, C, H, W) of the images' dtype, in [0, 1].
    """
    height, width = images.shape[-2:]
    grey = images.shape[1] == 1
    unit = 8 if grey else 16
    levels = (images * 255).round().double()  # so that rounding does not depend on how a batch is summed
    levels = pad(levels, (0, -width % unit, 0, -height % unit), mode="replicate")
    luminance, chrominance = table(quality, LUMINANCE).to(levels), table(quality, CHROMINANCE).to(levels)
    if grey:
        restored = _quantised(levels - 128, luminance) + 128
    else:
        matrix = torch.tensor(YCBCR, dtype=torch.float64)
        channels = torch.einsum("ij,bjhw->bihw", matrix.to(levels), levels).round()
        luma = _quantised(channels[:, :1] - 128, luminance) + 128
        chroma = _quantised(_halved(channels[:, 1:]), chrominance)
        # a halved pixel lies between the pixels it represents: weights 3/4 and 1/4, the usual smoothing of decoders
        chroma = interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
        restored = torch.einsum(
            "ij,bjhw->bihw", torch.linalg.inv(matrix).to(levels), torch.cat([luma, chroma.round()], dim=1)
        )
    return restored[..., :height, :width].round().clamp(0, 255).to(images) / 255


def table(quality: int, base: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return the (8, 8) float64 quantisation table of a quality in 1..100."""
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must lie in 1..100, got {quality}")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(base, dtype=torch.float64) * scale + 50) / 100).floor().clamp(1, 255)


def _quantised(levels: Tensor, steps: Tensor) -> Tensor:
    """Round the cosine coefficients of all 8 x 8 blocks to multiples of `steps`, and transform back to 8-bit levels."""
    batch, channels, height, width = levels.shape
    blocks = levels.view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    cosines = _cosines().to(levels)
    coefficients = cosines @ blocks @ cosines.T
    restored = cosines.T @ (_rounded(coefficients / steps) * steps) @ cosines
    return restored.transpose(3, 4).reshape(levels.shape).round().clamp(-128, 127)


def _halved(levels: Tensor) -> Tensor:
    """Halve both sides by averaging four pixels; halves and quarters round down and up in turns, as in encoders."""
    turns = (1 + torch.arange(levels.shape[-1] // 2, device=levels.device) % 2) / 4
    return (avg_pool2d(levels, 2) + turns).floor()


def _rounded(numbers: Tensor) -> Tensor:
    """Round halves away from zero; they are common with integer pixels and tables."""
    return (numbers.abs() + 0.5 + 1e-9).floor() * numbers.sign()


def _cosines() -> Tensor:
    """Return the (8, 8) orthogonal matrix of the discrete cosine transform, float64."""
    frequency, position = torch.arange(8.0, dtype=torch.float64)[:, None], torch.arange(8.0, dtype=torch.float64)
    matrix = (math.pi * (position + 0.5) * frequency / 8).cos() / 2
    matrix[0] /= math.sqrt(2)
    return matrix
