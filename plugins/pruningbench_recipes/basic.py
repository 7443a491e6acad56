"""Prune and measure; or prune, continue training and measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import RecipeJob
from pruningbench_recipes.settings import (
    InRounds,
    Recalibrating,
    Training,
    checkpoints_of,
    prune_in_rounds,
    training_data,
)

if TYPE_CHECKING:
    from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class NoTraining(InRounds, Recalibrating):
    """Prune, at once or in rounds, and measure; nothing is trained."""

    as_loaded: ClassVar[bool] = True

    def run(self, job: RecipeJob) -> Masks:
        """Prune ``job.model`` in place."""
        masks = prune_in_rounds(job, self.rounds)
        self.finish(job)
        return masks


@dataclass(frozen=True)
class Finetune(InRounds, Training):
    """Prune, at once or in rounds, then train the remaining weights; pruned weights stay exactly zero.

    If a pruner's masks move while training (gradual, movement, rigl), they move during this training.
    """

    def run(self, job: RecipeJob) -> Masks:
        """Prune ``job.model`` in place and train it on ``job.data``."""
        from pruningbench.training.fit import fit, number_of_steps

        samples = training_data(job)
        motion, masks = None, None
        if job.move is not None:
            motion = job.move(job.model, job.sparsity, number_of_steps(samples, self))
        else:
            masks = prune_in_rounds(job, self.rounds)
        checkpoints = checkpoints_of(job, "")
        fit(
            job.model,
            samples,
            self,
            seed=job.context.seed,
            masks=masks,
            motion=motion,
            augment=self.augment(job),
            checkpoints=checkpoints,
            report=job.context.report,
        )
        if checkpoints is not None:
            checkpoints.clear()
        self.finish(job)
        if masks is None:
            assert motion is not None  # noqa: S101 - one of the two was made above
            masks = motion.masks
        return masks
