"""One step of training with masks in force: shared by the fit loop and by pruners that train on their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import nn

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pruningbench.pruning.masks import MaskKeeper, Masks

    LossOf = Callable[[Tensor, Tensor], Tensor]
    Gradients = Callable[[Tensor, Tensor, LossOf, int], Tensor]


class Moving(Protocol):
    """Masks that move during training; see `pruningbench.contract.Motion`."""

    masks: Masks

    def before_step(self, step: int) -> bool:
        """Look at the gradients; return whether the optimizer should step."""
        ...

    def after_step(self, step: int) -> bool:
        """Move the masks if this step is due for it; return whether they have changed."""
        ...


class Schedule(Protocol):
    """Sets the learning rates of the next step."""

    def step(self) -> None:
        """Move on by one step."""
        ...


def gradients_of(images: Tensor, labels: Tensor, loss_of: LossOf, parts: int) -> Tensor:
    """Give the weights the gradients of the mean loss of a batch; return that loss, a scalar without gradients.

    Args:
        images: (B, C, H, W).
        labels: (B,) int64, or (B, classes) probabilities.
        loss_of: maps images and labels to their mean loss.
        parts: parts of the batch whose gradients are summed one after the other, >= 1.
    """
    if parts == 1:
        loss = loss_of(images, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    total = images.new_zeros(())
    for some, their in zip(images.chunk(parts), labels.chunk(parts), strict=True):
        loss = loss_of(some, their) * (len(some) / len(images))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


@dataclass
class Stepper:
    """Takes one step of the optimizer, the schedule and the moving masks.

    Attributes:
        network: the network to train.
        optimizer: the optimizer of its parameters.
        scheduler: the learning-rate schedule, or None.
        motion: the moving masks, or None.
        keeper: keeps masks in force; None if there are none.
        clip_norm: maximum gradient norm, 0 for no clipping.
        parts: parts of a batch whose gradients are summed one after the other, >= 1.
        after: called after each step, or None.
        gradients: computes the gradients of a batch, as `gradients_of` does.
        step: steps taken so far.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Schedule | None = None
    motion: Moving | None = None
    keeper: MaskKeeper | None = None
    clip_norm: float = 0.0
    parts: int = 1
    after: Callable[[], None] | None = None
    gradients: Gradients = gradients_of
    step: int = 0

    def __call__(self, images: Tensor, labels: Tensor, loss_of: LossOf) -> Tensor:
        """Descend on the mean loss of a batch; return it, detached, without waiting for the device."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.gradients(images, labels, loss_of, self.parts)
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        if self.motion is None or self.motion.before_step(self.step):
            self.optimizer.step()
        if self.motion is not None and self.motion.after_step(self.step) and self.keeper is not None:
            self.keeper.change(self.motion.masks)
        if self.scheduler is not None:
            self.scheduler.step()
        self.step += 1
        if self.after is not None:
            self.after()
        return loss


class MeanLoss:
    """The mean loss over the samples of an epoch; it waits for the device only now and then.

    Args:
        total: sum over the samples seen before.
        count: number of these samples.
    """

    MOST = 256
    """Batches after which the losses are read from the device."""

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self._total, self.count = total, count
        self._unread: list[tuple[Tensor, int]] = []

    def add(self, loss: Tensor, samples: int) -> None:
        """Add the mean loss of a batch of `samples`."""
        self._unread.append((loss, samples))
        self.count += samples
        if len(self._unread) >= self.MOST:
            self._read()

    @property
    def total(self) -> float:
        """Sum of the losses of all samples so far."""
        self._read()
        return self._total

    @property
    def value(self) -> float:
        """The mean.

        Raises:
            ZeroDivisionError: if there are no samples.
        """
        return self.total / self.count

    def _read(self) -> None:
        for loss, samples in self._unread:
            self._total += float(loss) * samples
        self._unread = []


def train_epoch(
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_of: LossOf,
    stepper: Stepper,
    mean: MeanLoss | None = None,
    after_batch: Callable[[], None] | None = None,
) -> float:
    """Take one step for each batch of (images, labels); return the mean loss over the samples.

    Args:
        batches: the batches.
        loss_of: maps (images, labels) to the mean loss of a batch.
        stepper: takes the steps.
        mean: losses of the epoch so far, if it was begun before; the batches' losses are added to it.
        after_batch: called after each step, when the loss has been added.

    Raises:
        ZeroDivisionError: if there are no samples.
    """
    mean = MeanLoss() if mean is None else mean
    for images, labels in batches:
        mean.add(stepper(images, labels, loss_of), len(labels))
        if after_batch is not None:
            after_batch()
    return mean.value
