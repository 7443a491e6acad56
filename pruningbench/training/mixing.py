"""What changes whole batches of normalised images: random erasing, mixup and cutmix, by timm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.training.settings import FitSettings


class Mixing:
    """Erases rectangles of images and mixes images and labels, the same way for the same seed, epoch and step.

    Args:
        settings: `erasing`, `mixup`, `cutmix` and `label_smoothing` of the training.
        classes: number of classes.
        device: where the images are.
        seed: seed of all draws.
    """

    def __init__(self, settings: FitSettings, classes: int, device: torch.device, seed: int) -> None:
        from timm.data.mixup import Mixup
        from timm.data.random_erasing import RandomErasing

        self._classes, self._seed, self._smoothing = classes, seed, settings.label_smoothing
        erasing: Any = RandomErasing
        mixing: Any = Mixup
        self._erase = erasing(settings.erasing, mode="pixel", device=device) if settings.erasing else None
        self._mix = None
        if settings.mixup or settings.cutmix:
            self._mix = mixing(
                settings.mixup, settings.cutmix, label_smoothing=settings.label_smoothing, num_classes=classes
            )

    def all(self, batches: Iterator[tuple[Tensor, Tensor]], epoch: int, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch, beginning with number `step`, changed by `batch`."""
        for number, (images, labels) in enumerate(batches, step):
            yield self.batch(images, labels, epoch, number)

    def batch(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Change (B, C, H, W) normalised images in place.

        Returns:
            The images, and the (B,) labels or, if images are mixed, (B, classes) probabilities. In a batch of odd size
            the last image is not mixed.
        """
        with isolated_randomness(self._seed, "mixing", epoch, step):
            if self._erase is not None:
                images = self._erase(images)
            if self._mix is None:
                return images, labels
            even = len(images) // 2 * 2
            targets = self._soft(labels)
            if even:
                mixed, soft = self._mix(images[:even], labels[:even])
                images[:even], targets[:even] = mixed, soft.to(targets.dtype)
            return images, targets

    def _soft(self, labels: Tensor) -> Tensor:
        """Return (B, classes) probabilities of labels that are not mixed."""
        sure = torch.nn.functional.one_hot(labels, self._classes).float()
        return sure * (1 - self._smoothing) + self._smoothing / self._classes


def mixing_of(model: VisionModel, settings: FitSettings, seed: int) -> Mixing | None:
    """Return what a training's settings ask for, or None.

    Raises:
        PruningBenchError: if labels would be mixed, but the model names no classes.
    """
    if not (settings.erasing or settings.mixup or settings.cutmix):
        return None
    if (settings.mixup or settings.cutmix) and not model.classes:
        raise PruningBenchError("mixup and cutmix need a model that names its classes; set both to 0")
    return Mixing(settings, len(model.classes), model.device, seed)
