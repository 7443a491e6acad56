"""Masks that move while a network trains: gradual pruning, movement pruning, RigL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract.component import param
from pruningbench.contract.cost import Cost, Outline
from pruningbench.contract.pruner import Pruner, PruningContext
from pruningbench.errors import ScoreError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks
    from pruningbench.pruning.stepping import Stepper


class Motion(ABC):
    """One training run's moving masks.

    For each step in 0 .. steps - 1, the training loop calls `before_step` once the gradients are computed,
    then the optimizer (if `before_step` returns True), then `after_step`. It applies every change of `masks`
    to the weights and the optimizer moments (`Masks.kept_during`).

    Attributes:
        masks: the current masks; before the first step, those that training starts with.
    """

    masks: Masks

    def before_step(self, step: int) -> bool:
        """Look at the dense gradients of this step; return whether the optimizer should step."""
        return True

    @abstractmethod
    def after_step(self, step: int) -> bool:
        """Move the masks if this step is due for it; return whether `masks` has changed."""

    def state(self) -> Mapping[str, Tensor] | None:
        """Return what the next steps depend on beside `masks` and the network, by name; it is stored with the training.

        A motion that keeps nothing returns an empty mapping. With None, the default, an interrupted training begins
        again.

        Returns:
            the tensors in use; copies are not needed.
        """
        return None

    def restore(self, masks: Masks, state: Mapping[str, Tensor]) -> None:
        """Continue as if the steps before had been taken: with the masks and the state that were stored after them.

        Args:
            masks: those that were in force.
            state: what `state` returned, with the names and shapes that it has now, on the CPU.
        """
        raise NotImplementedError(f"{type(self).__name__} returns a state and does not restore it")


@dataclass(frozen=True)
class MovingPruner(Pruner, ABC):
    """A pruner whose masks move while the network trains.

    With the recipe ``finetune`` the masks move during that training, with its optimizer, schedule and
    augmentation. With the recipe ``none`` and in ``pb.prune`` nothing else trains, so the pruner itself trains
    on the scoring batches, as its own fields say.
    """

    needs_data: ClassVar[bool] = True
    updates_weights: ClassVar[bool] = True
    title: ClassVar[str] = "that moves masks"
    """The registered name, for errors."""

    epochs: int = param(10, doc="passes over the scoring data when no recipe trains, >= 1")
    lr: float = param(0.01, doc="learning rate of SGD with momentum .9 when no recipe trains, > 0")
    batch_size: int = param(32, doc="samples per step when no recipe trains, >= 1; batches= in Python stay as given")

    def problem(self) -> str | None:
        """Check ranges."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                return f"{name} is {getattr(self, name)}, but must be at least 1"
        return None if self.lr > 0 else f"lr is {self.lr}, but must be above 0"

    def cost(self, outline: Outline) -> Cost:
        """Return the cost of training on the scoring batches: a recipe that trains takes its own instead."""
        memory = outline.masking_bytes + 3 * outline.state_bytes + 16 * outline.weights
        memory += 3 * outline.batch_size * outline.pass_bytes // 2
        formula = "4 S + 22 W + 9 Wmax + 1.5 b A: state, gradients, momentum, scores, masks, one batch"
        return Cost(self.epochs, self.epochs, outline.images(None), memory, formula)

    @abstractmethod
    def motion(self, context: PruningContext, sparsity: float, steps: int) -> Motion:
        """Start moving masks over the parameters of `context`, for `steps` steps of training.

        After the last step exactly ``round(sparsity * prunable)`` weights are pruned.
        """

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Train ``context.network`` in place on the scoring batches while the masks move."""
        import torch

        from pruningbench.pruning.stepping import Stepper, train_epoch

        steps = self.epochs * sum(1 for _ in _labelled(context, self.title))
        if not steps:
            raise UsageError(f"pruner {self.title!r} needs data: there are no batches")
        motion = self.motion(context, sparsity, steps)
        trained = [p for p in context.network.parameters() if p.requires_grad]
        if not trained:
            raise UsageError(f"pruner {self.title!r} trains, but all parameters of the network are frozen")
        optimizer = torch.optim.SGD(trained, lr=self.lr, momentum=0.9)
        context.network.train()
        with torch.enable_grad(), motion.masks.kept_during(context.network, optimizer) as keeper:
            stepper = Stepper(context.network, optimizer, motion=motion, keeper=keeper)
            for epoch in range(self.epochs):
                train_epoch(_labelled(context, self.title), self._loss(context.network, stepper), stepper)
                context.report(f"epoch {epoch + 1}/{self.epochs}")
        optimizer.zero_grad(set_to_none=True)
        context.network.eval()
        return motion.masks

    def _loss(self, network: nn.Module, stepper: Stepper) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function (images, labels) -> cross-entropy of a batch, which checks what it is given."""
        import torch
        from torch.nn.functional import cross_entropy

        def loss_of(images: Tensor, labels: Tensor) -> Tensor:
            logits = network(images)
            if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
                raise UsageError(f"pruner {self.title!r} needs a network with outputs (B, C)")
            logits = logits.float()
            if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
                raise UsageError(
                    f"pruner {self.title!r}: labels lie in [{int(labels.min())}, {int(labels.max())}], "
                    f"but the network has {logits.shape[1]} outputs"
                )
            loss = cross_entropy(logits, labels)
            if not torch.isfinite(loss):
                value = float(loss.detach())
                raise ScoreError(f"training diverged in step {stepper.step + 1}: loss {value}; lower the lr")
            return loss

        return loss_of


def _labelled(context: PruningContext, pruner: str) -> Iterator[tuple[Tensor, Tensor]]:
    for images, labels in context.batches() if context.batches is not None else ():
        if labels is None:
            raise UsageError(f"pruner {pruner!r} needs labels: batches must be (images, labels) pairs")
        yield images, labels
