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


class Moving(Protocol):
    """Masks that move during training; see `pruningbench.contract.Motion`."""

    masks: Masks

    def before_step(self, step: int) -> bool:
        """Look at the gradients; return whether the optimizer should step."""
        ...

    def after_step(self, step: int) -> bool:
        """Move the masks if this step is due for it; return whether they have changed."""
        ...


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
        step: steps taken so far.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    motion: Moving | None = None
    keeper: MaskKeeper | None = None
    clip_norm: float = 0.0
    step: int = 0

    def __call__(self, loss: Tensor) -> None:
        """Descend on a scalar loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        if self.motion is None or self.motion.before_step(self.step):
            self.optimizer.step()
        if self.motion is not None and self.motion.after_step(self.step) and self.keeper is not None:
            self.keeper.change(self.motion.masks)
        if self.scheduler is not None:
            self.scheduler.step()
        self.step += 1


def train_epoch(
    batches: Iterable[tuple[Tensor, Tensor]], loss_of: Callable[[Tensor, Tensor], Tensor], stepper: Stepper
) -> float:
    """Take one step for each batch of (images, labels); return the mean loss over the samples.

    Raises:
        ZeroDivisionError: if there are no samples.
    """
    total, count = 0.0, 0
    for images, labels in batches:
        loss = loss_of(images, labels)
        stepper(loss)
        total, count = total + float(loss.detach()) * len(labels), count + len(labels)
    return total / count
