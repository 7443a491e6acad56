"""The fit loop: supervised training of a `VisionModel`, with masks kept if there are any."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruningbench.components import Augmentation, Samples, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.masks import Masks
from pruningbench.randomness import generator_for, isolated_randomness


class TrainingError(PruningBenchError):
    """Training cannot start or has diverged."""


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        epochs: passes over the data, >= 1.
        optimizer: ``sgd`` (with `momentum`) or ``adamw``.
        lr: peak learning rate.
        momentum: of SGD.
        weight_decay: on weights of two and more dimensions only, as is usual for norms and biases.
        schedule: ``constant``, ``cosine`` to zero, or ``step`` (a tenth at 1/3 and at 2/3 of the steps).
        warmup: share of the steps with a linearly rising rate, in [0, 1).
        batch_size: samples a step; a last short batch is kept, and a single last sample joins the batch
            before it (batch norm cannot train on one sample).
        label_smoothing: in [0, 1).
        freeze_norm: keep batch-norm layers in eval mode (statistics fixed, affine still trained).
        mixed_precision: autocast to bfloat16.
        clip_norm: largest gradient norm, 0 for no clipping.
    """

    epochs: int
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine", "step"] = "cosine"
    warmup: float = 0.0
    batch_size: int = 128
    label_smoothing: float = 0.0
    freeze_norm: bool = False
    mixed_precision: bool = False
    clip_norm: float = 0.0


def fit(
    model: VisionModel,
    samples: Samples,
    settings: FitSettings,
    *,
    seed: int,
    masks: Masks | None = None,
    augment: Augmentation | None = None,
    report: Callable[[str], None] = lambda _message: None,
) -> list[float]:
    """Train ``model.network`` in place on labelled samples with cross-entropy; leave it in eval mode.

    Weights that `masks` prunes are exactly zero after every step. The order of the samples, the
    augmentation and dropout depend on `seed` only, and the caller's random state is restored.

    Returns:
        Mean training loss of each epoch.

    Raises:
        TrainingError: if there are no labels, or the loss is no longer finite.
    """
    labels = model.labels_of(samples)
    if labels is None or not len(samples):
        raise TrainingError("training needs labelled samples, and this data set has none")
    optimizer = make_optimizer(model.network, settings)
    steps = len(_batch_ranges(len(samples), settings.batch_size)) * settings.epochs
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings))
    keeping = masks.kept_during(model.network, optimizer) if masks is not None else nullcontext()
    losses = []
    with isolated_randomness(seed, "fit"), keeping:
        for epoch in range(settings.epochs):
            _train_mode(model.network, freeze_norm=settings.freeze_norm)
            generator = generator_for(seed, "epoch", epoch)
            batches = epoch_batches(model, samples, labels, settings.batch_size, generator, augment)
            losses.append(_epoch(model, batches, settings, optimizer, scheduler))
            report(f"epoch {epoch + 1}/{settings.epochs}, loss {losses[-1]:.3f}")
            if not math.isfinite(losses[-1]):
                raise TrainingError(f"training diverged in epoch {epoch + 1}: loss {losses[-1]}; lower the lr")
    model.network.eval()
    return losses


def make_optimizer(network: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """Build the optimizer over the parameters that require gradients."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


def epoch_batches(
    model: VisionModel,
    samples: Samples,
    labels: Tensor,
    batch_size: int,
    generator: torch.Generator,
    augment: Augmentation | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one shuffled pass of (normalised images, labels) on the model's device.

    `labels` are (N,) int64 in the model's label space, in the order of the samples.
    """
    order = torch.randperm(len(samples), generator=generator).tolist()
    for batch in _batch_ranges(len(order), batch_size):
        index = [order[i] for i in batch]
        images = torch.stack([model.preprocessing.fit(samples[i]).image for i in index])
        if augment is not None:
            images = augment(images, generator)
        yield model.preprocessing.normalise(images.to(model.device)), labels[index].to(model.device)


def _batch_ranges(count: int, batch_size: int) -> list[range]:
    """Cut `count` positions into batches; a last batch of one is joined to the one before it."""
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1 and batch_size > 1:
        starts.pop()
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]


def _epoch(
    model: VisionModel,
    batches: Iterator[tuple[Tensor, Tensor]],
    settings: FitSettings,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    total, count = 0.0, 0
    for images, labels in batches:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=settings.mixed_precision):
            logits = model.logits(images)
        loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm:
            nn.utils.clip_grad_norm_(model.network.parameters(), settings.clip_norm)
        optimizer.step()
        scheduler.step()
        total, count = total + float(loss.detach()) * len(labels), count + len(labels)
    return total / count


def _train_mode(network: nn.Module, *, freeze_norm: bool) -> None:
    network.train()
    if freeze_norm:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _rate(step: int, steps: int, settings: FitSettings) -> float:
    """Return the factor on the peak learning rate at `step` of `steps`."""
    warm = settings.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(steps - warm, 1)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if settings.schedule == "step":
        return 0.1 ** int(progress * 3)
    return 1.0
