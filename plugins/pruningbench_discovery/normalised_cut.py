"""TokenCut and MaskCut: objects as one side of a normalised cut of the patch graph.

Wang et al., Self-Supervised Transformers for Unsupervised Object Discovery using Normalized Cut, CVPR
2022; Wang et al., Cut and Learn for Unsupervised Object Detection and Instance Segmentation, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pruningbench_discovery.affinity import check_grid, images_together, resembling, unit_rows
from pruningbench_discovery.grid import bounding_boxes, connected_component
from pruningbench_discovery.spectral import second_eigenvectors

TOKENCUT_TAU, MASKCUT_TAU, MASKCUT_OBJECTS = 0.2, 0.15, 3
"""Thresholds and number of objects in the papers."""
WEAK = 1e-5
"""Affinity of patches that do not resemble each other."""


def tokencut(
    features: Tensor,
    grid: tuple[int, int],
    patch_size: int,
    image_size: tuple[int, int],
    tau: float = TOKENCUT_TAU,
) -> tuple[Tensor, Tensor]:
    """Return one box per image: the object on the salient side of a normalised cut.

    Patches are connected with affinity 1 if their cosine exceeds `tau` and 1e-5 otherwise. The second
    eigenvector of the normalised cut is split at its mean; the foreground is the side with the entry of
    largest magnitude (the seed), and the box surrounds its 4-connected part that contains the seed.

    Args:
        features: (B, N, D) float features of the patches in row-major order, without a class token.
        grid: (h, w) with h * w = N.
        patch_size: side of a patch in pixels.
        image_size: (H, W) in pixels before padding to whole patches; boxes end there.
        tau: threshold on the cosine, in [-1, 1].

    Returns:
        (B, 4) float32 boxes xmin, ymin, xmax, ymax in pixels, maximum exclusive, and (B, h, w) bool,
        True on the foreground. NaN and all False where there is nothing to cut: if features are not finite,
        or if all patches, or none, resemble each other.

    Raises:
        ValueError: if `grid` does not fit the features or `tau` is out of range.
    """
    foreground, component = tokencut_regions(features, grid, tau)
    return bounding_boxes(component, patch_size, image_size), foreground


def tokencut_regions(features: Tensor, grid: tuple[int, int], tau: float = TOKENCUT_TAU) -> tuple[Tensor, Tensor]:
    """Return the foregrounds of `tokencut` and their parts that contain the seed, both (B, h, w) bool."""
    foregrounds, components = [], []
    for connected in _graphs(features, grid, tau):
        salient, seed = _salient_side(connected)
        salient = salient.view(-1, *grid)
        foregrounds.append(salient)
        components.append(connected_component(salient, seed))
    return _together(foregrounds, features, grid), _together(components, features, grid)


def maskcut(
    features: Tensor,
    grid: tuple[int, int],
    patch_size: int,
    image_size: tuple[int, int],
    tau: float = MASKCUT_TAU,
    objects: int = MASKCUT_OBJECTS,
) -> tuple[Tensor, Tensor]:
    """Return several boxes per image by repeated normalised cuts, each without the objects found before.

    Each cut is that of `tokencut`, except that a side with three or four of the grid's corners counts as
    background. The patches of a found object are disconnected in later cuts.

    Args:
        features: (B, N, D) float features of the patches in row-major order, without a class token.
        grid: (h, w) with h * w = N.
        patch_size: side of a patch in pixels.
        image_size: (H, W) in pixels before padding to whole patches; boxes end there.
        tau: threshold on the cosine, in [-1, 1].
        objects: maximum number of objects per image, >= 1.

    Returns:
        (B, objects, 4) float32 boxes in pixels in the order of discovery, NaN where there is no further
        object, and (B, objects, h, w) bool masks that do not overlap.

    Raises:
        ValueError: if `grid` does not fit the features, or `tau` or `objects` is out of range.
    """
    masks = maskcut_regions(features, grid, tau, objects)
    return bounding_boxes(masks.flatten(0, 1), patch_size, image_size).view(-1, objects, 4), masks


def maskcut_regions(
    features: Tensor, grid: tuple[int, int], tau: float = MASKCUT_TAU, objects: int = MASKCUT_OBJECTS
) -> Tensor:
    """Return the masks of `maskcut`, (B, objects, h, w) bool."""
    if objects < 1:
        raise ValueError(f"objects must be at least 1, got {objects}")
    chunks = []
    for connected in _graphs(features, grid, tau):
        free = torch.ones(connected.shape[:2], dtype=torch.bool, device=connected.device)
        regions = []
        for _ in range(objects):
            mask = _object(connected & free[:, :, None] & free[:, None, :], free, grid)
            free = free & ~mask
            regions.append(mask.view(-1, *grid))
        chunks.append(torch.stack(regions, dim=1))
    return _together(chunks, features, (objects, *grid))


def _object(connected: Tensor, free: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the next object (B, N) among the free patches, or none if nothing is left to cut."""
    salient, seed = _salient_side(connected, grid)
    # also none if the seed is not free
    return connected_component((salient & free).view(-1, *grid), seed).flatten(1)


def _salient_side(connected: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Cut graphs (B, N, N) in two.

    Returns:
        (B, N) bool, True on the salient side, and (B,) int64, its seed: the entry farthest from zero, or,
        if the grid's corners swapped the sides, the largest entry of the other side. All False for a graph
        in which no pair or every pair is connected.
    """
    vector = second_eigenvectors(connected, WEAK)
    above = vector > vector.mean(dim=1, keepdim=True)
    seed = vector.abs().argmax(dim=1)
    turned = ~above.gather(1, seed[:, None])[:, 0]
    if grid is not None:
        turned = turned | (_corners(above, grid) >= 3)
        seed = torch.where(turned[:, None], -vector, vector).argmax(dim=1)
    salient = above ^ turned[:, None]
    pairs = connected.shape[1] ** 2
    edges = connected.flatten(1).sum(dim=1)
    diagonal = connected.diagonal(dim1=1, dim2=2).sum(dim=1)
    return salient & ((edges > diagonal) & (edges < pairs))[:, None], seed


def _corners(side: Tensor, grid: tuple[int, int]) -> Tensor:
    """Count the corners of the grid on a side (B, N) bool."""
    return side.view(-1, *grid)[:, :: max(grid[0] - 1, 1), :: max(grid[1] - 1, 1)].flatten(1).sum(dim=1)


def _graphs(features: Tensor, grid: tuple[int, int], tau: float) -> Iterator[Tensor]:
    check_grid(features, grid)
    if not -1 <= tau <= 1:
        raise ValueError(f"tau must lie in [-1, 1], got {tau}")
    for part in torch.split(features, images_together(features)):
        if len(part):
            yield resembling(unit_rows(part), tau)


def _together(parts: list[Tensor], features: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0, *shape, dtype=torch.bool, device=features.device)
