"""The task `ridge-zero-shot`: whether a pruned backbone still fits the heads of the dense one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import (
    ComponentRef,
    Context,
    DatasetRef,
    Predictions,
    PruningBenchError,
    Task,
    VisionModel,
    param,
)

if TYPE_CHECKING:
    from pruningbench_transfer.ridge import RidgeHead


@dataclass(frozen=True)
class RidgeZeroShot(Task):
    """Heads of the dense backbone on the pruned one, for the task it was pruned on and for unseen tasks.

    For each data set, a closed-form ridge head (class-balanced, with bias, one-hot targets) is fitted on the **dense**
    backbone's features of the training split: those of the model as loaded, whatever the recipe. Attached to the pruned
    backbone, it predicts the test split. Nothing is fitted to the pruned network. Variants: ``source`` is the task
    whose data pruning and fine-tuning use; ``target-...`` are tasks they never see. The suite's `data:` sets the data
    for pruning: use the same data as `source_train`. Source: arXiv 2509.24066.
    """

    dimension = "transfer"
    metrics = ("accuracy",)
    main_data = "source_test"

    source_train: DatasetRef = param(doc="labelled data of the source task, for its head")
    source_test: DatasetRef = param(doc="labelled data of the source task, to predict")
    target_train: tuple[DatasetRef, ...] = param((), doc="labelled data of each unseen task, for its head")
    target_test: tuple[DatasetRef, ...] = param((), doc="labelled data of each unseen task, to predict")
    names: tuple[str, ...] = param((), doc="names of the unseen tasks in the results; default 1, 2 ...")
    alpha: float = param(1.0, doc="strength of the ridge penalty, > 0")

    def problem(self) -> str | None:
        """Refuse lists that do not fit together."""
        if len(self.target_train) != len(self.target_test):
            return f"target_train lists {len(self.target_train)} data sets and target_test {len(self.target_test)}"
        if self.names and len(self.names) != len(self.target_test):
            return f"names lists {len(self.names)} names for {len(self.target_test)} targets"
        if len(set(self.names)) < len(self.names):
            return f"names must differ, got {list(self.names)}"
        return None if self.alpha > 0 else f"alpha must be positive, got {self.alpha}"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Predictions]]:
        """Yield the scores of the source and of each target."""
        names = self.names or tuple(str(i + 1) for i in range(len(self.target_test)))
        yield "source", self._predictions(model, context, self.source_train, self.source_test)
        for name, train, test in zip(names, self.target_train, self.target_test, strict=True):
            yield f"target-{name}", self._predictions(model, context, train, test)

    def _predictions(
        self, model: VisionModel, context: Context, train: ComponentRef, test: ComponentRef
    ) -> Predictions:
        from pruningbench_transfer.labels import shared_labels
        from pruningbench_transfer.ridge import ridge_head

        dense = context.as_loaded  # the published protocol: heads of the backbone before any pruning and training
        if dense is None:
            raise PruningBenchError("ridge-zero-shot needs the dense model to fit its heads, which this context lacks")
        fitted, tested = context.open_dataset(train), context.open_dataset(test)
        labels, truth = shared_labels(fitted, tested)

        def fit() -> RidgeHead:
            return ridge_head(context.features(dense, fitted), labels, self.alpha, classes=len(fitted.classes))

        head = context.once(("ridge head", fitted.fingerprint), fit)
        return Predictions(head(context.features(model, tested)), truth)
