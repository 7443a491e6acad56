"""The fit loop: supervised training of a `VisionModel`, with masks kept if there are any."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pruningbench.base.randomness import generator_for, isolated_randomness
from pruningbench.contract import Augmentation, Motion, Samples, VisionModel
from pruningbench.pruning.masks import MaskKeeper, Masks
from pruningbench.pruning.stepping import MeanLoss, Stepper, gradients_of, train_epoch
from pruningbench.training.batches import batch_ranges, epoch_batches
from pruningbench.training.checkpoints import (
    Checkpoints,
    Progress,
    State,
    captured,
    fits,
    kept_with,
    place_of,
    prefixed,
    restore,
    without,
)
from pruningbench.training.crops import CropLoader
from pruningbench.training.errors import TrainingError
from pruningbench.training.mixing import mixing_of
from pruningbench.training.modes import train_mode
from pruningbench.training.objective import Objective, prepared
from pruningbench.training.optimizing import make_optimizer, make_schedule
from pruningbench.training.settings import CropSettings, FitSettings
from pruningbench.training.team import team_of

__all__ = ["DRAWN", "TrainingError", "fit", "number_of_steps"]

DRAWN = "drawn"
"""Name in a stored state of the state of the epoch's generator."""


def fit(
    model: VisionModel,
    samples: Samples,
    settings: FitSettings,
    *,
    seed: int,
    masks: Masks | None = None,
    motion: Motion | None = None,
    augment: Augmentation | CropSettings | None = None,
    first_epoch: int = 0,
    after_epoch: Callable[[int], None] | None = None,
    collected: dict[str, Tensor] | None = None,
    checkpoints: Checkpoints | None = None,
    report: Callable[[str], None] = lambda _message: None,
) -> list[float]:
    """Train ``model.network`` in place on labelled samples with cross-entropy; leave it in eval mode.

    Weights that `masks` prunes are exactly zero after every step. The order of the samples, the
    augmentation and dropout depend on `seed` only, and the caller's random state is restored.

    With several `processes`, this one is the first: it reads and augments the batches, takes the steps and calls
    everything that is given here. The others compute gradients of their shares of the batches (`Team`).

    Args:
        model: the model to train.
        samples: labelled data.
        settings: how to train.
        seed: seed of order, augmentation and dropout.
        masks: what stays pruned.
        motion: masks that move during training, made for `number_of_steps` steps; used instead of `masks`.
        augment: augmentation of the images at the network's size, random crops of the photographs, or None.
        first_epoch: number of epochs that count as done; order and learning rate continue from there.
        after_epoch: called after each epoch with the number of epochs done.
        collected: tensors that `after_epoch` collects; they are stored with the state and put back with it.
        checkpoints: where the state is stored after epochs and every `checkpoint_minutes`, and taken from if the
            training was interrupted; ignored with a `motion` that gives no state, or with `after_epoch` but without
            `collected`, because their own state is not known. The caller clears them once it has stored the result.
        report: receives progress notes.

    Returns:
        Mean training loss of each epoch.

    Raises:
        TrainingError: if there are no labels, the loss is no longer finite, a process dies, or torch cannot compile the
            network.
    """
    labels = model.labels_of(samples)
    if labels is None or not len(samples):
        raise TrainingError("training needs labelled samples, but this data set has none")
    if (motion is not None and motion.state() is None) or (after_epoch is not None and collected is None):
        checkpoints = None
    run = _Run(model, samples, labels, settings, seed, augment, after_epoch, collected, checkpoints, report)
    return run.train(masks, motion, first_epoch)


def number_of_steps(samples: Samples, settings: FitSettings) -> int:
    """Return how many optimizer steps all epochs of `settings` take."""
    return len(batch_ranges(len(samples), settings.batch_size)) * settings.epochs


class _Run:
    """One training."""

    def __init__(
        self,
        model: VisionModel,
        samples: Samples,
        labels: Tensor,
        settings: FitSettings,
        seed: int,
        augment: Augmentation | CropSettings | None,
        after_epoch: Callable[[int], None] | None,
        collected: dict[str, Tensor] | None,
        checkpoints: Checkpoints | None,
        report: Callable[[str], None],
    ) -> None:
        self.model, self.samples, self.labels, self.settings, self.seed = model, samples, labels, settings, seed
        self.augment = None if isinstance(augment, CropSettings) else augment
        self.crops = augment if isinstance(augment, CropSettings) else None
        self.after_epoch, self.collected = after_epoch, collected
        self.checkpoints, self.report = checkpoints, report
        self.network = model.network
        self.mixing = mixing_of(model, settings, seed)
        self.loader: CropLoader | None = None
        self.progress = Progress()
        self.average: Any = None
        """The moving average of the weights: timm's ``ModelEmaV3``, or None."""
        self.drawn: Tensor | None = None
        """State of the epoch's generator after the steps done before."""
        self.motion: Motion | None = None
        self.keeper: MaskKeeper | None = None

    def train(self, masks: Masks | None, motion: Motion | None, first_epoch: int) -> list[float]:
        """Train all epochs; return their mean losses."""
        settings, steps = self.settings, number_of_steps(self.samples, self.settings)
        start = motion.masks if motion is not None else masks
        with ExitStack() as inside:
            inside.enter_context(isolated_randomness(self.seed, "fit"))
            objective = inside.enter_context(prepared(self.model, settings))
            optimizer = make_optimizer(self.network, settings)
            keeper = inside.enter_context(start.kept_during(self.network, optimizer)) if start is not None else None
            self.motion, self.keeper = motion, keeper
            self._begin(optimizer, first_epoch)
            done = steps // settings.epochs * self.progress.epoch + self.progress.step
            schedule = make_schedule(optimizer, settings, steps, done)
            after = None if self.average is None else partial(self.average.update, self.network)
            team = inside.enter_context(team_of(self.model, settings, self.seed, self._now))
            stepper = Stepper(
                self.network, optimizer, schedule, motion, keeper, settings.clip_norm, settings.accumulate, after,
                gradients_of if team is None else team.gradients, done,
            )  # fmt: skip
            if self.crops is not None:
                self.loader = CropLoader(
                    self.model, self.samples, self.labels, settings.batch_size, self.crops, self.seed
                )
                inside.callback(self.loader.close)
            while self.progress.epoch < settings.epochs:
                self._epoch(stepper, objective)
            optimizer.zero_grad(set_to_none=True)
            if self.average is not None:
                self.network.load_state_dict(self.average.module.state_dict())
                if keeper is not None:
                    keeper.enforce()  # masks that moved prune weights that the average still has
        self.network.eval()
        return self.progress.losses

    def _now(self) -> tuple[int, int]:
        """Return the epoch and the step that is computed."""
        return self.progress.epoch, self.progress.step

    def _begin(self, optimizer: torch.optim.Optimizer, first_epoch: int) -> None:
        """Start from a stored state, if there is one that is further than `first_epoch`, or from there."""
        self.progress = Progress(first_epoch)
        if self.settings.ema:
            from timm.utils.model_ema import ModelEmaV3

            self.average = ModelEmaV3(self.network, self.settings.ema)
        state = self.checkpoints.latest() if self.checkpoints is not None else None
        if state is None or not (first_epoch, 0) < place_of(state) <= (self.settings.epochs, 0):
            return
        if not fits(state, self.network, {**self._average_state(), **self._motion_state()}):
            self.report("a stored state is of another network and is ignored: the training begins again")
            return
        self.progress = restore(state, self.network, optimizer)
        more = kept_with(state)
        self.drawn = more.pop(DRAWN, None)
        if self.average is not None:
            self.average.module.load_state_dict(without("ema/", more))
        if self.collected is not None:
            self.collected.update(without("collected/", more))
        if self.motion is not None and self.keeper is not None:
            masks = {name: mask.bool() for name, mask in without("masks/", more).items()}
            self.motion.restore(Masks(masks), without("motion/", more))
            self.keeper.change(self.motion.masks)
        self.report(f"{self.progress.done(self.settings.epochs)} before")

    def _epoch(self, stepper: Stepper, objective: Objective) -> None:
        """Train the epoch that comes next, or the rest of it."""
        settings, progress = self.settings, self.progress
        train_mode(self.network, freeze_norm=settings.freeze_norm)
        generator = generator_for(self.seed, "epoch", progress.epoch)
        if self.loader is not None:
            batches = self.loader.epoch(progress.epoch, progress.step)
        else:
            batches = epoch_batches(
                self.model, self.samples, self.labels, settings.batch_size, generator, self.augment,
                skip=progress.step, drawn=self.drawn,
            )  # fmt: skip
        if self.mixing is not None:
            batches = self.mixing.all(batches, progress.epoch, progress.step)
        self.drawn = None
        mean = MeanLoss(progress.total, progress.count)

        def after_batch() -> None:
            progress.step += 1
            if self.checkpoints is not None and self.checkpoints.due(settings.checkpoint_minutes):
                progress.total, progress.count = mean.total, mean.count
                self._keep(stepper.optimizer, {DRAWN: generator.get_state()})

        loss = train_epoch(batches, objective, stepper, mean, after_batch)
        progress.losses.append(loss)
        progress.epoch, progress.step, progress.total, progress.count = progress.epoch + 1, 0, 0.0, 0
        self.report(f"epoch {progress.epoch}/{settings.epochs}, loss {loss:.3f}")
        if not math.isfinite(loss):
            raise TrainingError(f"training diverged in epoch {progress.epoch}: loss {loss}; lower the lr")
        if self.after_epoch is not None:
            self.after_epoch(progress.epoch)
        if self.checkpoints is not None and self.checkpoints.due():
            self._keep(stepper.optimizer, {})

    def _keep(self, optimizer: torch.optim.Optimizer, more: Mapping[str, Tensor]) -> None:
        assert self.checkpoints is not None  # noqa: S101 - both callers have looked
        collected = prefixed("collected/", self.collected or {})
        more = {**self._average_state(), **self._motion_state(), **collected, **more}
        self.checkpoints.keep(captured(self.progress, self.network, optimizer, more))

    def _average_state(self) -> State:
        return {} if self.average is None else prefixed("ema/", self.average.module.state_dict())

    def _motion_state(self) -> State:
        """Return what moving masks need to continue; nothing if there are none, or if they say nothing."""
        state = None if self.motion is None else self.motion.state()
        if self.motion is None or state is None:
            return {}
        return {**prefixed("masks/", self.motion.masks), **prefixed("motion/", state)}
