"""Patch features for discovery methods: images padded to whole patches in, one matrix per image out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from pruningbench.contract import Facet, Patches, ViewUnavailableError, VisionModel

Normalise = Literal["auto", "map", "channels", "none"]


@torch.no_grad()
def patches_of(model: VisionModel, images: Tensor, normalise: Normalise = "auto", facet: Facet = "keys") -> Patches:
    """Return the patch features of normalised images (B, C, H, W).

    Images are padded with zeros at the right and bottom to whole patches if the network declares its
    patch size (``patch_embed.patch_size``, as timm's transformers do); a convolutional network does its own
    padding.

    Args:
        model: a model with the view `patch_features`.
        images: (B, C, H, W) normalised images.
        normalise: ``map`` layer-normalises each image's features over all patches and channels, as
            LOST does for convolutional networks, whose activations are hardly ever negative;
            ``channels`` subtracts each channel's mean over the image's patches, which helps where
            activations are sparse and all patches resemble each other even after ``map``;
            ``none`` leaves them unchanged, as LOST does for a transformer's keys; ``auto`` is ``map``
            for a network with several convolutions and ``none`` otherwise.
        facet: output of a transformer's last block that represents a patch.
    """
    height, width = images.shape[-2:]
    images, declared = _whole_patches(model, images)
    # omit the argument at its default, so that views without facets work too
    features = model.patch_features(images) if facet == "keys" else model.patch_features(images, facet)
    grid = (int(features.shape[2]), int(features.shape[3]))
    rows = features.flatten(2).mT
    if normalise == "map" or (normalise == "auto" and _is_convolutional(model.network)):
        rows = layer_norm(rows, rows.shape[1:])
    elif normalise == "channels":
        rows = rows - rows.mean(dim=1, keepdim=True)
    if declared is None or (grid[0] * declared, grid[1] * declared) != tuple(images.shape[-2:]):
        declared = stride_of((height, width), grid)  # stages that merge patches enlarge them

    def attention() -> Tensor:
        maps = attention_to_patches(model, images)
        if maps is not None:
            return maps
        raw = rows if normalise == "none" else patches_of(model, images, "none").features
        activity: Tensor = raw.norm(dim=2)[:, None]  # without attention, each patch's activity
        return activity

    return Patches(rows, grid, declared, attention)


@torch.no_grad()
def attention_to_patches(model: VisionModel, images: Tensor) -> Tensor | None:
    """Return the last block's attention (B, heads, N) of the class token to the patches of normalised images.

    Images are padded as in `patches_of`. Without a class token it is the mean over all patches. The result
    is None for a network without attention.
    """
    images, _ = _whole_patches(model, images)
    try:
        last = model.attentions(images)[-1]
    except ViewUnavailableError:
        return None
    prefix = model.prefix_tokens
    maps = last[:, :, 0] if prefix else last.mean(dim=2)
    return maps[:, :, prefix:]


def _whole_patches(model: VisionModel, images: Tensor) -> tuple[Tensor, int | None]:
    """Return the images padded to whole patches, and the patch size if the network declares it."""
    declared = _declared_patch_size(model.network)
    if declared is not None:
        height, width = images.shape[-2:]
        images = pad(images, (0, -width % declared, 0, -height % declared))
    return images, declared


def stride_of(image_size: tuple[int, int], grid: tuple[int, int]) -> int:
    """Return the distance in pixels between neighbouring cells of a convolutional network's grid.

    If the grid does not divide the image, the network padded it, and strides are powers of two.
    """
    (height, width), (h, w) = image_size, grid
    if height % h == 0 and height // h == -(-width // w):
        return height // h
    if width % w == 0 and width // w == -(-height // h):
        return width // w
    ratio = max(height / h, width / w)
    stride = 1
    while stride < ratio:
        stride *= 2
    return stride


def _declared_patch_size(network: nn.Module) -> int | None:
    size = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if isinstance(size, (tuple, list)):
        size = size[0]
    return int(size) if isinstance(size, int) else None


def _is_convolutional(network: nn.Module) -> bool:
    """Return whether the network has several convolutions; a transformer has at most its patch embedding."""
    return sum(isinstance(module, nn.Conv2d) for module in network.modules()) > 1
