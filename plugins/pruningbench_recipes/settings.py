"""What all recipes share: training settings and batch-norm recalibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pruningbench.contract import (
    MovingPruner,
    Pruner,
    PruningBenchError,
    Recipe,
    RecipeJob,
    generator_for,
    param,
)
from pruningbench.training.settings import CropSettings, FitSettings

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract import Augmentation, Samples
    from pruningbench.pruning.masks import Masks
    from pruningbench.training.checkpoints import Checkpoints

RECALIBRATION_BATCH = 128
"""Samples per batch when batch norm is recalibrated; fixed, since the statistics depend on it."""


@dataclass(frozen=True)
class Recalibrating(Recipe):
    """A recipe that may end by recalibrating batch norm; raw and recalibrated results are different rows."""

    recalibrate: int = param(
        0,
        doc="number of training samples to recompute batch-norm statistics from at the end; 0 keeps them",
        training=False,
    )

    def problem(self) -> str | None:
        """Check ranges."""
        if self.recalibrate < 0 or self.recalibrate == 1:
            return f"recalibrate is {self.recalibrate}, but must be 0 or at least 2 samples"
        return None

    def needs_data(self) -> bool:
        """Whether training data are needed."""
        return self.trains or self.recalibrate > 0

    def changes_dense(self) -> bool:
        """Whether it trains or recalibrates."""
        return self.trains or self.recalibrate > 0

    def finish(self, job: RecipeJob) -> None:
        """Recalibrate ``job.model`` if this recipe asks for it."""
        if not self.recalibrate:
            return
        from pruningbench.training.recalibration import recalibrate

        layers = recalibrate(job.model.network, self._images(job))
        job.context.report(f"batch norm recalibrated in {layers} layers")

    def _images(self, job: RecipeJob) -> Iterator[Tensor]:
        import torch

        samples = training_data(job)
        order = torch.randperm(len(samples), generator=generator_for(job.context.seed, "recalibration"))
        for batch in job.model.batches(samples, RECALIBRATION_BATCH, index=order[: self.recalibrate].tolist()):
            if len(batch.images) > 1:  # one sample has no variance
                yield batch.images


@dataclass(frozen=True)
class Training(CropSettings, FitSettings, Recalibrating):
    """A recipe that trains; its fields are the settings of the fit."""

    trains: ClassVar[bool] = True

    augmentation: Literal["model", "none", "crops"] = param(
        "model", doc="the model's own training augmentation, none, or random crops of the photographs and flips"
    )

    def problem(self) -> str | None:
        """Check ranges."""
        return self.out_of_range() or self.crops_out_of_range() or self._unused() or super().problem()

    def _unused(self) -> str | None:
        """Return which setting of crops is given although there are none, or None."""
        if self.augmentation == "crops":
            return None
        given = [f.name for f in dataclasses.fields(CropSettings) if getattr(self, f.name) != f.default]
        return f"{given[0]} is for augmentation: crops, but augmentation is {self.augmentation}" if given else None

    def trainings(self, sparsity: float) -> list[Any]:
        """Return the single training; a recalibrated row has a different one."""
        return [[sparsity, self.recalibrate]]

    def augment(self, job: RecipeJob) -> Augmentation | CropSettings | None:
        """Return the augmentation to train with."""
        if self.augmentation == "crops":
            return self
        return job.model.augment if self.augmentation == "model" else None


@dataclass(frozen=True)
class InRounds(Recipe):
    """A recipe that may prune in several rounds before anything is trained."""

    rounds: int = param(1, doc="rounds of scoring and pruning before training, >= 1; 1 = one shot")

    def problem(self) -> str | None:
        """Check ranges."""
        return super().problem() if self.rounds >= 1 else f"rounds is {self.rounds}, but must be at least 1"

    def prunes_dense(self) -> bool:
        """Whether there is only one round."""
        return self.rounds == 1

    def refuses(self, pruner: Pruner) -> str | None:
        """Refuse several rounds with a pruner that has its own."""
        moves = self.rounds > 1 and isinstance(pruner, MovingPruner)
        return "its masks move during training, so it cannot prune in rounds: leave out `rounds`" if moves else None


def checkpoints_of(job: RecipeJob, stage: str) -> Checkpoints | None:
    """Return where a stage of a job's training is stored while it is unfinished; None to store nothing."""
    from pruningbench.training.checkpoints import Checkpoints

    return None if job.identity is None else Checkpoints(job.context.cache, {**job.identity, "stage": stage})


def prune_in_rounds(job: RecipeJob, rounds: int) -> Masks:
    """Prune ``job.model`` to its sparsity in rounds, scoring the remaining weights again in each; train nothing.

    The density falls as density^(k / rounds), k = 1 .. rounds. Weights pruned in one round do not return. Recipes that
    prune in the same rounds share the masks.
    """
    if rounds > 1 and job.once is not None:
        return job.once({"rounds": rounds, "density": "geometric"}, lambda: _rounds(job, rounds))
    return _rounds(job, rounds)


def _rounds(job: RecipeJob, rounds: int) -> Masks:
    masks = None
    for k in range(1, rounds):
        level = 1 - (1 - job.sparsity) ** (k / rounds)
        masks = job.prune(job.model, level, masks)
        job.context.report(f"pruning round {k}/{rounds}")
    return job.prune(job.model, job.sparsity, masks)


def training_data(job: RecipeJob) -> Samples:
    """Return the job's training samples.

    Raises:
        PruningBenchError: if there are none.
    """
    if job.data is None:
        raise PruningBenchError("this recipe needs training data: name it in the suite as `data:`")
    return job.data
