"""What all recipes share: the settings of training, and recalibration of batch norm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pruningbench.contract import MovingPruner, Pruner, Recipe, RecipeJob, param
from pruningbench.errors import PruningBenchError

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract import Augmentation, Samples
    from pruningbench.pruning.masks import Masks
    from pruningbench.training.fit import FitSettings

RECALIBRATION_BATCH = 128
"""Samples a batch when batch norm is recalibrated; not a knob, since the statistics depend on it."""


@dataclass(frozen=True)
class Recalibrating(Recipe):
    """A recipe that may end with recalibrating batch norm; raw and recalibrated are different rows."""

    recalibrate: int = param(
        0,
        doc="training samples from which batch-norm statistics are taken anew at the end; 0 keeps them as they are",
        training=False,
    )

    def problem(self) -> str | None:
        """Check ranges."""
        if self.recalibrate < 0 or self.recalibrate == 1:
            return f"recalibrate is {self.recalibrate}, must be 0 or at least 2 samples"
        return None

    def needs_data(self) -> bool:
        """Whether training data are needed."""
        return self.trains or self.recalibrate > 0

    def finish(self, job: RecipeJob) -> None:
        """Recalibrate ``job.model`` if this recipe says so."""
        if not self.recalibrate:
            return
        from pruningbench.training.recalibration import recalibrate

        layers = recalibrate(job.model.network, self._images(job))
        job.context.report(f"batch norm recalibrated in {layers} layers")

    def _images(self, job: RecipeJob) -> Iterator[Tensor]:
        import torch

        from pruningbench.base.randomness import generator_for

        samples = training_data(job)
        order = torch.randperm(len(samples), generator=generator_for(job.context.seed, "recalibration"))
        for batch in job.model.batches(samples, RECALIBRATION_BATCH, index=order[: self.recalibrate].tolist()):
            if len(batch.images) > 1:  # one sample has no variance
                yield batch.images


@dataclass(frozen=True)
class Training(Recalibrating):
    """A recipe that trains."""

    trains: ClassVar[bool] = True

    epochs: int = param(2, doc="passes over the training data, >= 1")
    optimizer: Literal["sgd", "adamw"] = param("sgd", doc="sgd or adamw")
    lr: float = param(0.01, doc="peak learning rate, > 0")
    momentum: float = param(0.9, doc="momentum of sgd, in [0, 1)")
    weight_decay: float = param(1e-4, doc="on weights of two and more dimensions, >= 0")
    schedule: Literal["constant", "cosine", "step"] = param("cosine", doc="learning rate over the steps")
    warmup: float = param(0.0, doc="share of the steps with a rising rate, in [0, 1)")
    batch_size: int = param(32, doc="samples a step, >= 1")
    label_smoothing: float = param(0.0, doc="in [0, 1)")
    augmentation: Literal["model", "none"] = param("model", doc="the model's own training augmentation, or none")
    freeze_norm: bool = param(False, doc="keep batch-norm statistics as they are")
    freeze_head: bool = param(False, doc="keep the classifier as it is")
    mixed_precision: bool = param(False, doc="autocast to bfloat16")
    clip_norm: float = param(0.0, doc="largest gradient norm, 0 for none")

    def problem(self) -> str | None:
        """Check ranges."""
        for name, fine in (
            ("epochs", self.epochs >= 1),
            ("lr", self.lr > 0),
            ("momentum", 0 <= self.momentum < 1),
            ("weight_decay", self.weight_decay >= 0),
            ("warmup", 0 <= self.warmup < 1),
            ("batch_size", self.batch_size >= 1),
            ("label_smoothing", 0 <= self.label_smoothing < 1),
            ("clip_norm", self.clip_norm >= 0),
        ):
            if not fine:
                return f"{name} is {getattr(self, name)}, out of its range"
        return super().problem()

    def trainings(self, sparsity: float) -> list[Any]:
        """Return the one training; that of a recalibrated row is another."""
        return [[sparsity, self.recalibrate]]

    def fit_settings(self) -> FitSettings:
        """Return the settings for `pruningbench.training.fit`."""
        from pruningbench.training.fit import FitSettings

        return FitSettings(
            epochs=self.epochs,
            optimizer=self.optimizer,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup=self.warmup,
            batch_size=self.batch_size,
            label_smoothing=self.label_smoothing,
            freeze_norm=self.freeze_norm,
            freeze_head=self.freeze_head,
            mixed_precision=self.mixed_precision,
            clip_norm=self.clip_norm,
        )

    def augment(self, job: RecipeJob) -> Augmentation | None:
        """Return the augmentation to train with."""
        return job.model.augment if self.augmentation == "model" else None


@dataclass(frozen=True)
class InRounds(Recipe):
    """A recipe that may prune in several rounds before anything is trained."""

    rounds: int = param(1, doc="rounds of scoring and pruning before anything is trained, >= 1; 1 = one shot")

    def problem(self) -> str | None:
        """Check ranges."""
        return super().problem() if self.rounds >= 1 else f"rounds is {self.rounds}, must be at least 1"

    def prunes_dense(self) -> bool:
        """Whether there is one round only."""
        return self.rounds == 1

    def refuses(self, pruner: Pruner) -> str | None:
        """Refuse rounds of a pruner that has its own."""
        moves = self.rounds > 1 and isinstance(pruner, MovingPruner)
        return "its masks move while training, so they cannot be made in rounds: leave out `rounds`" if moves else None


def prune_in_rounds(job: RecipeJob, rounds: int) -> Masks:
    """Prune ``job.model`` to its sparsity in rounds, scoring anew what each round leaves; nothing is trained.

    The density falls as density^(k / rounds), k = 1 .. rounds. What a round prunes does not return.
    """
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
