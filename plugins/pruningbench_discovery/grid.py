"""Regions of patch grids: connected components and their bounding boxes, computed in batches."""

from __future__ import annotations

import torch
from torch import Tensor


def connected_component(foreground: Tensor, seed: Tensor) -> Tensor:
    """Return the 4-connected component of each grid's foreground that contains its seed.

    A region grows by whole horizontal and vertical runs of foreground, so the number of
    passes is the number of turns on the longest path through it, not the path's length.

    Args:
        foreground: (B, h, w) bool.
        seed: (B,) int64 flat row-major indices.

    Returns:
        (B, h, w) bool, all False for a seed outside the foreground.
    """
    rows = _runs(foreground).flatten()
    columns = _runs(foreground.mT).mT.flatten()
    inside = foreground.flatten()
    reached = torch.zeros_like(foreground).flatten(1).scatter_(1, seed[:, None], True).flatten() & inside
    while True:
        grown = reached
        for runs in (rows, columns):
            touched = torch.zeros_like(inside)
            touched[runs[grown]] = True
            grown = touched[runs] & inside
        if torch.equal(grown, reached):
            return reached.view_as(foreground)
        reached = grown


def largest_component(foreground: Tensor) -> Tensor:
    """Return the largest 4-connected component of each grid's foreground (B, h, w); the first among equals.

    It is all False where there is no foreground.
    """
    inside = foreground.flatten()
    rows, columns = _runs(foreground).flatten(), _runs(foreground.mT).mT.flatten()
    order = torch.arange(inside.numel(), device=inside.device)
    label = order  # finally the first cell of each component
    while True:
        spread = label
        for runs in (rows, columns):
            lowest = torch.full_like(order, inside.numel()).scatter_reduce_(0, runs, spread, "amin")
            spread = torch.where(inside, lowest[runs], order)
        if torch.equal(spread, label):
            break
        label = spread
    size = torch.bincount(label[inside], minlength=inside.numel()).view(len(foreground), -1)
    first = size.argmax(dim=1) + torch.arange(len(foreground), device=size.device) * size.shape[1]
    return (label.view(len(foreground), -1) == first[:, None]).view_as(foreground) & foreground


def pixels_of(regions: Tensor, patch_size: int, image_size: tuple[int, int]) -> Tensor:
    """Scale regions of a patch grid (B, h, w) to the image (B, H, W); its rim belongs to the last patches."""
    height, width = image_size
    row = (torch.arange(height, device=regions.device) // patch_size).clamp(max=regions.shape[1] - 1)
    column = (torch.arange(width, device=regions.device) // patch_size).clamp(max=regions.shape[2] - 1)
    return regions[:, row][:, :, column]


def _runs(foreground: Tensor) -> Tensor:
    """Number the cells (B, h, w) so that each horizontal run shares one number, below B * h * w."""
    starts = torch.ones_like(foreground)
    starts[..., 1:] = foreground[..., 1:] != foreground[..., :-1]
    return starts.flatten().cumsum(0).view_as(starts) - 1


def bounding_boxes(regions: Tensor, patch_size: int, image_size: tuple[int, int]) -> Tensor:
    """Return the boxes around regions of a patch grid, in pixels.

    Args:
        regions: (B, h, w) bool.
        patch_size: side of a patch in pixels.
        image_size: (H, W) in pixels; boxes are clipped to it.

    Returns:
        (B, 4) float32 xmin, ymin, xmax, ymax, maximum exclusive; NaN for an empty region.
    """
    height, width = image_size
    x_low, x_high = _extent(regions.any(dim=1))
    y_low, y_high = _extent(regions.any(dim=2))
    boxes = torch.stack([x_low, y_low, x_high, y_high], dim=1).float() * patch_size
    boxes = boxes.clamp(max=boxes.new_tensor([width, height, width, height]))
    return boxes.masked_fill(~regions.flatten(1).any(dim=1)[:, None], float("nan"))


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the position of the first True in each row of (B, n), and the position after the last."""
    mark = occupied.to(torch.uint8)
    return mark.argmax(dim=1), occupied.shape[1] - mark.flip(1).argmax(dim=1)
