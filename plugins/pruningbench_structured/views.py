"""Random views of images, and the gradients of a self-supervised loss between them.

Source: the loss follows Caron et al., Emerging properties in self-supervised vision transformers (ICCV 2021), on the
embeddings themselves and without temperatures, as in Simoncini et al. (NeurIPS 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate, normalize

from pruningbench.contract import PruningBenchError
from pruningbench.pruning.weight_inputs import in_double

GLOBAL, LOCAL = (0.25, 1.0), (0.05, 0.25)
"""Smallest and largest share of the image's area in a global and in a local view."""
GLOBALS = 2
"""Number of global views of an image; the first views are global."""
_TRIES = 10


def random_box(height: int, width: int, area: tuple[float, float], generator: Generator) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of a random crop of an image, in pixels.

    The share of the area is uniform in `area` and the logarithm of width over height in that of [3/4, 4/3]; of ten
    draws the first that fits the image is taken, or else the largest central crop of such a shape (RandomResizedCrop;
    Szegedy et al., Going deeper with convolutions, CVPR 2015).
    """
    low, high = math.log(3 / 4), math.log(4 / 3)
    for share, shape, down, across in torch.rand((_TRIES, 4), generator=generator, dtype=torch.float64).tolist():
        pixels = height * width * (area[0] + share * (area[1] - area[0]))
        aspect = math.exp(low + shape * (high - low))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w
    w = min(width, round(height * 4 / 3))
    h = min(height, round(width * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


def views(images: Tensor, count: int, generators: Iterable[Generator]) -> Tensor:
    """Return random views of each image: crops, resized to the image's size (bilinear, antialiased).

    Args:
        images: (B, C, H, W) float.
        count: number of views, of which the first `GLOBALS` are global.
        generators: for each image, what its crops are drawn from.

    Returns:
        (B, count, C, H, W).
    """
    height, width = images.shape[-2:]
    crops = []
    for image, generator in zip(images, generators, strict=True):
        for number in range(count):
            top, left, h, w = random_box(height, width, GLOBAL if number < GLOBALS else LOCAL, generator)
            crop = image[None, :, top : top + h, left : left + w]
            crops.append(interpolate(crop, (height, width), mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(crops).view(len(images), count, *images.shape[1:])


def view_loss(embeddings: Tensor) -> Tensor:
    """Return each image's sum of cross-entropies from its global views to its other views, (B,).

    The distributions are softmaxes of the embeddings, which are divided by their L2 norms. Those of the global views
    are constants, the teacher's; a view is not compared with itself.

    Args:
        embeddings: (B, views, D), global views first.
    """
    unit = normalize(embeddings, dim=-1)
    teacher = unit[:, :GLOBALS].detach().softmax(-1)
    others = teacher.sum(1, keepdim=True).repeat(1, unit.shape[1], 1)
    others[:, :GLOBALS] -= teacher
    return -(others * unit.log_softmax(-1)).sum((1, 2))


def view_gradients(
    embed: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    batches: Iterable[Tensor],
    count: int,
    generator_of: Callable[[int], Generator],
) -> list[Tensor]:
    """Return the gradients of the mean loss over all images, float64, in the shapes of the parameters.

    A pass takes as many images as have no more views than their batch has images, and one at least.

    Args:
        embed: images -> (B, D) embeddings.
        parameters: what to differentiate by; they must require gradients.
        batches: (B, C, H, W) images.
        count: number of views of an image.
        generator_of: gives the generator of the image with a number.

    Raises:
        PruningBenchError: if gradients are NaN or infinite.
    """
    totals = [torch.zeros_like(in_double(parameter.detach())) for parameter in parameters]
    seen = 0
    for batch in batches:
        for images in torch.split(batch, max(1, len(batch) // count)):
            crops = views(images, count, map(generator_of, range(seen, seen + len(images))))
            with torch.enable_grad():
                embeddings = embed(crops.flatten(0, 1))
                losses = view_loss(embeddings.view(*crops.shape[:2], -1))
                gradients = torch.autograd.grad(losses.sum(), list(parameters))
            for total, gradient in zip(totals, gradients, strict=True):
                total.add_(in_double(gradient))
            seen += len(images)
    if not all(bool(torch.isfinite(total).all()) for total in totals):
        raise PruningBenchError("pruner 'snapvit': gradients are NaN or infinite; check the network and its images")
    return [total / seen for total in totals]
