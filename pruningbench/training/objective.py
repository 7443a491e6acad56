"""What a training descends on: the cross-entropy of a batch, in the modes that its settings ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from pruningbench.contract import VisionModel
from pruningbench.contract.precision import kernels
from pruningbench.training.compiling import compiled
from pruningbench.training.modes import frozen, memory_format
from pruningbench.training.settings import FitSettings


class Objective:
    """The loss of a batch.

    Args:
        model: the model in training.
        settings: precision, memory format and label smoothing.
    """

    def __init__(self, model: VisionModel, settings: FitSettings) -> None:
        self._model, self._settings = model, settings

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy, a float32 scalar with gradients.

        Args:
            images: (B, C, H, W) normalised, on the model's device.
            labels: (B,) int64, or (B, classes) probabilities.
        """
        if self._settings.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._settings.autocasts):
            logits = self._model.logits(images)
        smoothing = 0.0 if labels.is_floating_point() else self._settings.label_smoothing
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


@contextmanager
def prepared(model: VisionModel, settings: FitSettings, backend: str | None = None) -> Iterator[Objective]:
    """Set a network up for training inside the block: frozen head, precision, memory format, compiled or not.

    Args:
        model: the model to train.
        settings: how to train.
        backend: backend of torch.compile, if the network is compiled; the usual one by default.

    Raises:
        TrainingError: if the head should be frozen but is unknown, or torch cannot compile the network.
    """
    with ExitStack() as inside:
        inside.enter_context(frozen(model, freeze_head=settings.freeze_head))
        inside.enter_context(kernels(settings.precision))
        inside.enter_context(memory_format(model.network, channels_last=settings.channels_last))
        if settings.compile:
            inside.enter_context(compiled(model.network, backend))
        yield Objective(model, settings)
