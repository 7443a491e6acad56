"""The task `fine-tune-transfer`: train the pruned backbone on another data set and test it there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pruningbench.contract import Context, DatasetRef, Predictions, Task, VisionModel, param
from pruningbench.training.settings import FitSettings, setting


@dataclass(frozen=True)
class FineTuneTransfer(Task):
    """The pruned backbone, trained on the classes of another data set while pruned weights stay zero.

    A new linear head on the embedding replaces the classifier, and backbone and head are trained. All models and
    pruners start from the same head and see the samples in the same order. The test split is predicted once, at the
    end.
    """

    dimension = "transfer"
    metrics = ("accuracy",)
    main_data = "test"

    train: DatasetRef = param(doc="labelled data set to train on")
    test: DatasetRef = param(doc="labelled data set of the same classes to test on")
    epochs: int = setting("epochs", 10)
    optimizer: Literal["sgd", "adamw"] = setting("optimizer")
    lr: float = setting("lr")
    weight_decay: float = setting("weight_decay")
    schedule: Literal["constant", "cosine", "step"] = setting("schedule")
    warmup: float = setting("warmup")
    train_batch_size: int = setting("batch_size")
    augmentation: Literal["model", "none"] = param("none", doc="the model's own training augmentation, or none")
    freeze_norm: bool = setting("freeze_norm")
    clip_norm: float = setting("clip_norm")

    def problem(self) -> str | None:
        """Check ranges."""
        wrong = self._settings().out_of_range()
        return wrong.replace("batch_size", "train_batch_size") if wrong else None

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Predictions]]:
        """Yield the logits on the test split after training.

        Raises:
            TrainingError: if training diverges, as it does for a collapsed network.
        """
        import torch

        from pruningbench.training.fit import fit
        from pruningbench_transfer.headed import kept_weights, with_new_head
        from pruningbench_transfer.labels import shared_labels

        fitted, tested = context.open_dataset(self.train), context.open_dataset(self.test)
        _, truth = shared_labels(fitted, tested)
        width = context.features(model, fitted, [0]).shape[1]
        learner = with_new_head(model, fitted.classes, width, context.generator("head"))
        fit(
            learner,
            fitted,
            self._settings(),
            seed=context.seed,
            masks=kept_weights(learner),
            augment=model.augment if self.augmentation == "model" else None,
            report=context.report,
        )
        with torch.inference_mode():
            batches = learner.batches(tested, context.batch_size)
            scores = torch.cat([learner.logits(batch.images).float().cpu() for batch in batches])
        yield "", Predictions(scores, truth, probabilistic=True)

    def _settings(self) -> FitSettings:
        return FitSettings(
            self.epochs, self.optimizer, self.lr, weight_decay=self.weight_decay, schedule=self.schedule,
            warmup=self.warmup, batch_size=self.train_batch_size, freeze_norm=self.freeze_norm,
            clip_norm=self.clip_norm,
        )  # fmt: skip
