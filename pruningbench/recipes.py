"""The recipes of the core: prune and measure, or prune, train on and measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.components import Recipe, RecipeJob, param

if TYPE_CHECKING:
    from pruningbench.masks import Masks


@dataclass(frozen=True)
class NoTraining(Recipe):
    """Prune once and measure; nothing is trained."""

    def run(self, job: RecipeJob) -> Masks:
        """Prune ``job.model`` in place."""
        return job.prune(job.model, job.sparsity)


@dataclass(frozen=True)
class Finetune(Recipe):
    """Prune once, then train the weights that are left; pruned weights stay exactly zero."""

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
        return None

    def run(self, job: RecipeJob) -> Masks:
        """Prune ``job.model`` in place and train it on ``job.data``."""
        from pruningbench.training import FitSettings, TrainingError, fit

        if job.data is None:
            raise TrainingError("recipe 'finetune' needs training data: name it in the suite as `data:`")
        masks = job.prune(job.model, job.sparsity)
        settings = FitSettings(
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
            mixed_precision=self.mixed_precision,
            clip_norm=self.clip_norm,
        )
        fit(
            job.model,
            job.data,
            settings,
            seed=job.context.seed,
            masks=masks,
            augment=job.model.augment if self.augmentation == "model" else None,
            report=job.context.report,
        )
        return masks
