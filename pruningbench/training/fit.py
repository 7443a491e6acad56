"""The fit loop: supervised training of a `VisionModel`, with masks kept if there are any."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruningbench.base.randomness import generator_for, isolated_randomness
from pruningbench.contract import Augmentation, Motion, Samples, VisionModel
from pruningbench.errors import PruningBenchError
from pruningbench.images.reading_ahead import read_ahead
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.stepping import Stepper, train_epoch
from pruningbench.training.checkpoints import Checkpoints, restore
from pruningbench.training.settings import FitSettings


class TrainingError(PruningBenchError):
    """Training cannot start or has diverged."""


def fit(
    model: VisionModel,
    samples: Samples,
    settings: FitSettings,
    *,
    seed: int,
    masks: Masks | None = None,
    motion: Motion | None = None,
    augment: Augmentation | None = None,
    first_epoch: int = 0,
    after_epoch: Callable[[int], None] | None = None,
    checkpoints: Checkpoints | None = None,
    report: Callable[[str], None] = lambda _message: None,
) -> list[float]:
    """Train ``model.network`` in place on labelled samples with cross-entropy; leave it in eval mode.

    Weights that `masks` prunes are exactly zero after every step. The order of the samples, the
    augmentation and dropout depend on `seed` only, and the caller's random state is restored.

    Args:
        model: the model to train.
        samples: labelled data.
        settings: how to train.
        seed: seed of order, augmentation and dropout.
        masks: what stays pruned.
        motion: masks that move during training, made for `number_of_steps` steps; used instead of `masks`.
        augment: augmentation of the images, or None.
        first_epoch: number of epochs that count as done; order and learning rate continue from there.
        after_epoch: called after each epoch with the number of epochs done.
        checkpoints: where the state is stored after epochs, and taken from if the training was interrupted; ignored
            with `motion` or `after_epoch`, whose own state is not stored. The caller clears them once it has stored the
            result.
        report: receives progress notes.

    Returns:
        Mean training loss of each epoch.

    Raises:
        TrainingError: if there are no labels, or the loss is no longer finite.
    """
    labels = model.labels_of(samples)
    if labels is None or not len(samples):
        raise TrainingError("training needs labelled samples, but this data set has none")
    steps = number_of_steps(samples, settings)
    losses: list[float] = []
    if motion is not None or after_epoch is not None:
        checkpoints = None
    begun, state = checkpoints.latest(settings.epochs) if checkpoints is not None else (0, {})
    first_epoch = max(first_epoch, begun)
    steps_done = steps // settings.epochs * first_epoch
    with isolated_randomness(seed, "fit"), _frozen(model, settings.freeze_head):
        optimizer = make_optimizer(model.network, settings)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(steps_done + step, steps, settings))
        start = motion.masks if motion is not None else masks
        with start.kept_during(model.network, optimizer) if start is not None else nullcontext() as keeper:
            stepper = Stepper(model.network, optimizer, scheduler, motion, keeper, settings.clip_norm)
            if state:
                losses = restore(state, model.network, optimizer)
                report(f"epoch {begun}/{settings.epochs} was done before")
            for epoch in range(first_epoch, settings.epochs):
                _train_mode(model.network, freeze_norm=settings.freeze_norm)
                generator = generator_for(seed, "epoch", epoch)
                batches = epoch_batches(model, samples, labels, settings.batch_size, generator, augment)
                losses.append(train_epoch(batches, _loss(model, settings), stepper))
                report(f"epoch {epoch + 1}/{settings.epochs}, loss {losses[-1]:.3f}")
                if not math.isfinite(losses[-1]):
                    raise TrainingError(f"training diverged in epoch {epoch + 1}: loss {losses[-1]}; lower the lr")
                if after_epoch is not None:
                    after_epoch(epoch + 1)
                if checkpoints is not None:
                    checkpoints.keep(epoch + 1, model.network, optimizer, losses)
        optimizer.zero_grad(set_to_none=True)
    model.network.eval()
    return losses


def number_of_steps(samples: Samples, settings: FitSettings) -> int:
    """Return how many optimizer steps all epochs of `settings` take."""
    return len(_batch_ranges(len(samples), settings.batch_size)) * settings.epochs


@contextmanager
def _frozen(model: VisionModel, freeze_head: bool) -> Iterator[None]:
    """Exclude the head's parameters from training inside the block."""
    parameters = dict(model.network.named_parameters())
    if freeze_head and not model.head:
        raise TrainingError("freeze_head: this model does not say which parameters are its head")
    frozen = [parameters[name] for name in model.head if parameters[name].requires_grad] if freeze_head else []
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


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
    source = samples.resized(model.preprocessing)
    fitted = read_ahead(lambda i: model.preprocessing.fit(source[i]).image, order, source.workers, 2 * batch_size)
    for batch in _batch_ranges(len(order), batch_size):
        index = [order[i] for i in batch]
        images = torch.stack(list(islice(fitted, len(index))))
        if augment is not None:
            images = augment(images, generator)
        yield model.preprocessing.normalise(images.to(model.device)), labels[index].to(model.device)


def _batch_ranges(count: int, batch_size: int) -> list[range]:
    """Cut `count` positions into batches; a last batch of one is joined to the one before it."""
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1 and batch_size > 1:
        starts.pop()
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]


def _loss(model: VisionModel, settings: FitSettings) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function (images, labels) -> mean cross-entropy of a batch."""

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=settings.mixed_precision):
            logits = model.logits(images)
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)

    return loss_of


def _train_mode(network: nn.Module, *, freeze_norm: bool) -> None:
    network.train()
    if freeze_norm:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _rate(step: int, steps: int, settings: FitSettings) -> float:
    """Return the factor that scales the peak learning rate at `step` of `steps`."""
    warm = settings.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(steps - warm, 1)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if settings.schedule == "step":
        return 0.1 ** int(progress * 3)
    return 1.0
