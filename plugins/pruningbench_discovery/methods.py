"""The methods of object discovery as components, and the boxes around the objects they find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import DiscoveryMethod, DiscoverySettings, FoundObjects, Patches

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Lost(DiscoveryMethod):
    """Grow the object from the patch that resembles the fewest others (LOST).

    ``k`` is the number of candidate patches of low degree; the default is the paper's share, 100 of every 784 patches.
    Source: Siméoni et al., Localizing objects with self-supervised transformers and no labels, 2021.
    """

    def find(self, patches: Patches, settings: DiscoverySettings) -> FoundObjects:
        """Return one object per image."""
        from pruningbench_discovery.seed_expansion import PAPER_K, PAPER_PATCHES, lost_regions

        n = patches.features.shape[1]
        k = settings.k if settings.k is not None else max(1, round(n * PAPER_K / PAPER_PATCHES))
        foreground = lost_regions(patches.features, patches.grid, k)
        return FoundObjects(foreground, foreground[:, None])


@dataclass(frozen=True)
class TokenCut(DiscoveryMethod):
    """Cut the graph of similar patches in two (TokenCut).

    ``tau`` is 0.2 by default, as in the paper.
    Source: Wang et al., Self-supervised transformers for unsupervised object discovery using normalized cut, 2022.
    """

    def find(self, patches: Patches, settings: DiscoverySettings) -> FoundObjects:
        """Return one object per image: the part of the foreground that contains the seed."""
        from pruningbench_discovery.normalised_cut import TOKENCUT_TAU, tokencut_regions

        tau = TOKENCUT_TAU if settings.tau is None else settings.tau
        foreground, component = tokencut_regions(patches.features, patches.grid, tau)
        return FoundObjects(foreground, component[:, None])


@dataclass(frozen=True)
class MaskCut(DiscoveryMethod):
    """Cut the graph of similar patches repeatedly to find several objects (MaskCut).

    ``tau`` is 0.15 by default, as in the paper.
    Source: Wang et al., Cut and learn for unsupervised object detection and instance segmentation, 2023.
    """

    def find(self, patches: Patches, settings: DiscoverySettings) -> FoundObjects:
        """Return up to ``settings.objects`` objects per image."""
        from pruningbench_discovery.normalised_cut import MASKCUT_TAU, maskcut_regions

        tau = MASKCUT_TAU if settings.tau is None else settings.tau
        objects = maskcut_regions(patches.features, patches.grid, tau, settings.objects)
        return FoundObjects(objects.any(dim=1), objects)


@dataclass(frozen=True)
class Found(DiscoveryMethod):
    """Take everything that does not resemble the least attended patch (the background of FOUND).

    ``tau`` is 0.3 by default, as in the paper.
    Source: Siméoni et al., Unsupervised object localization: observing the background to discover objects, 2023.
    """

    def find(self, patches: Patches, settings: DiscoverySettings) -> FoundObjects:
        """Return one object per image: the largest part of the foreground."""
        from pruningbench_discovery.background import FOUND_TAU, found_background
        from pruningbench_discovery.grid import largest_component

        tau = FOUND_TAU if settings.tau is None else settings.tau
        foreground = ~found_background(patches.features, patches.grid, patches.attention(), tau)
        return FoundObjects(foreground, largest_component(foreground)[:, None])


@dataclass(frozen=True)
class Regions:
    """The objects found in a batch of images of one size.

    Attributes:
        boxes: (B, K, 4) float32 pixels, NaN where there is no object.
        foreground: (B, H, W) bool, True on the pixels of all objects.
    """

    boxes: Tensor
    foreground: Tensor


def discover(method: DiscoveryMethod, patches: Patches, settings: DiscoverySettings, size: tuple[int, int]) -> Regions:
    """Find objects in patch features; return their boxes and pixels in images of `size` (height, width)."""
    from pruningbench_discovery.grid import bounding_boxes, pixels_of

    discovery = method.find(patches, settings)
    objects = discovery.objects
    boxes = bounding_boxes(objects.flatten(0, 1), patches.size, size).view(*objects.shape[:2], 4)
    return Regions(boxes, pixels_of(discovery.foreground, patches.size, size))


def existing_boxes(boxes: Tensor) -> list[Tensor]:
    """Return the boxes that exist among each image's K in (B, K, 4), on the CPU."""
    import torch

    images = boxes.cpu()
    return [image[~torch.isnan(image).any(dim=1)] for image in images]
