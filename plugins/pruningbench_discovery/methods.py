"""From patch features to regions: the discovery methods behind one face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pruningbench.contract import Facet, VisionModel
from pruningbench_discovery.background import FOUND_TAU, found_background
from pruningbench_discovery.features import Normalise, attention_to_patches, patches_of
from pruningbench_discovery.grid import bounding_boxes, largest_component, pixels_of
from pruningbench_discovery.normalised_cut import MASKCUT_TAU, TOKENCUT_TAU, maskcut_regions, tokencut_regions
from pruningbench_discovery.seed_expansion import PAPER_K, PAPER_PATCHES, lost_regions

Method = Literal["lost", "tokencut", "maskcut", "found"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Settings:
    """How objects are looked for; the fields are those of the task `discovery`."""

    method: Method
    facet: Facet
    normalise: Normalise
    k: int | None
    tau: float | None
    objects: int


@dataclass(frozen=True)
class Regions:
    """What was found in a batch of images of one size.

    Attributes:
        boxes: (B, K, 4) float32 pixels, NaN where there is no object.
        foreground: (B, H, W) bool, True on the pixels of all objects.
    """

    boxes: Tensor
    foreground: Tensor


def discover(model: VisionModel, images: Tensor, settings: Settings) -> Regions:
    """Look for objects in normalised images (B, C, H, W)."""
    patches = patches_of(model, images, settings.normalise, settings.facet)
    features, grid = patches.features, patches.grid
    tau = settings.tau
    if settings.method == "lost":
        n = features.shape[1]
        k = settings.k if settings.k is not None else max(1, round(n * PAPER_K / PAPER_PATCHES))
        foreground = lost_regions(features, grid, k)
        objects = foreground[:, None]
    elif settings.method == "tokencut":
        foreground, component = tokencut_regions(features, grid, TOKENCUT_TAU if tau is None else tau)
        objects = component[:, None]
    elif settings.method == "maskcut":
        objects = maskcut_regions(features, grid, MASKCUT_TAU if tau is None else tau, settings.objects)
        foreground = objects.any(dim=1)
    else:
        attention = attention_to_patches(model, images)
        if attention is None:  # without attention, how active a patch is
            raw = features if settings.normalise == "none" else patches_of(model, images, "none").features
            attention = raw.norm(dim=2)[:, None]
        foreground = ~found_background(features, grid, attention, FOUND_TAU if tau is None else tau)
        objects = largest_component(foreground)[:, None]
    size = (int(images.shape[-2]), int(images.shape[-1]))
    boxes = bounding_boxes(objects.flatten(0, 1), patches.size, size).view(*objects.shape[:2], 4)
    return Regions(boxes, pixels_of(foreground, patches.size, size))


def found_boxes(boxes: Tensor) -> list[Tensor]:
    """Return of each image (K, 4) of (B, K, 4) boxes those that exist, on the CPU."""
    kept = boxes.cpu()
    return [image[~torch.isnan(image).any(dim=1)] for image in kept]
