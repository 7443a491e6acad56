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
    """Masks that move during a training, see `pruningbench.contract.Motion`."""

    masks: Masks

    def before_step(self, step: int) -> bool:
        """Look at the gradients; return whether the optimizer shall step."""
        ...

    def after_step(self, step: int) -> bool:
        """Move the masks if it is time to; return whether they have changed."""
        ...


@dataclass
class Stepper:
    """Takes one step of the optimizer, of the schedule and of moving masks.

    Attributes:
        network: what is trained.
        optimizer: over its parameters.
        scheduler: of the learning rate, or None.
        motion: masks that move, or None.
        keeper: keeps masks in force, or None where there are none.
        clip_norm: largest gradient norm, 0 for no clipping.
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
    """Take a step for each batch of (images, labels); return the mean loss of the samples.

    Raises:
        ZeroDivisionError: if there are no samples.
    """
    total, count = 0.0, 0
    for images, labels in batches:
        loss = loss_of(images, labels)
        stepper(loss)
        total, count = total + float(loss.detach()) * len(labels), count + len(labels)
    return total / count
