"""The tasks: predict the classes of a data set, with the network's own head or from its features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.components import Context, DatasetRef, Predictions, Samples, Task, VisionModel, param
from pruningbench.errors import PruningBenchError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classification(Task):
    """The network's own predictions on a data set.

    Classes are matched by name: the data set may name them in another order or have only some of the
    network's. A class that the network lacks is an error.
    """

    metrics = ("accuracy",)

    data: DatasetRef = param(doc="labelled data set whose classes the network knows")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Predictions]]:
        """Yield the logits of all samples."""
        from pruningbench_transfer.labels import labels_in

        samples = context.open_dataset(self.data)
        if not model.classes:
            raise PruningBenchError("the network has no classifier: use the task 'transfer' for its features")
        labels = labels_in(model.classes, samples, whose="the network")
        scores = _collect(model.logits, model, samples, context)
        yield "", Predictions(scores, labels.to(scores.device))


@dataclass(frozen=True)
class Transfer(Task):
    """Classes predicted from frozen features, fitted on one data set and tested on another.

    Variants: ``knn`` (weighted nearest neighbours) and ``linear-probe`` (logistic regression). The
    features of an image are computed once for both.
    """

    metrics = ("accuracy",)
    main_data = "test"

    train: DatasetRef = param(doc="labelled data set that the classifiers are fitted on")
    test: DatasetRef = param(doc="labelled data set of the same classes that they are tested on")
    k: int = param(20, doc="number of neighbours, >= 1; fewer training samples mean all")
    temperature: float = param(0.07, doc="a neighbour's vote is exp(cosine / temperature); > 0")
    C: float = param(1.0, doc="linear probe: inverse strength of the l2 penalty, > 0")

    def problem(self) -> str | None:
        """Refuse values out of range."""
        if self.k < 1:
            return f"k must be at least 1, got {self.k}"
        if not self.temperature > 0:
            return f"temperature must be positive, got {self.temperature}"
        return None if self.C > 0 else f"C must be positive, got {self.C}"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Predictions]]:
        """Yield one variant a classifier."""
        from pruningbench_transfer.labels import labels_in
        from pruningbench_transfer.neighbours import knn_scores
        from pruningbench_transfer.probe import linear_probe

        fitted, tested = context.open_dataset(self.train), context.open_dataset(self.test)
        _check_same_classes(fitted, tested)
        labels = labels_in(fitted.classes, fitted, whose="the training data")
        if not bool((labels != labels[:1]).any()):
            raise PruningBenchError("transfer needs two classes, but all training labels are the same")
        truth = labels_in(fitted.classes, tested, whose="the training data")
        train, test = (_collect(model.embed, model, data, context) for data in (fitted, tested))
        classes = len(fitted.classes)
        scores = knn_scores(train, labels, test, self.k, self.temperature, classes=classes)
        yield "knn", Predictions(scores, truth.to(scores.device))
        yield (
            "linear-probe",
            Predictions(linear_probe(train, labels, test, self.C, classes=classes), truth.cpu()),
        )


def _collect(view: Callable[[Tensor], Tensor], model: VisionModel, samples: Samples, context: Context) -> Tensor:
    """Return what `view` gives for all samples, (N, D), without gradients."""
    import torch

    with torch.no_grad():
        return torch.cat([view(batch.images) for batch in model.batches(samples, context.batch_size)])


def _check_same_classes(train: Samples, test: Samples) -> None:
    only_train = sorted(set(train.classes) - set(test.classes))
    only_test = sorted(set(test.classes) - set(train.classes))
    if only_train or only_test:
        raise PruningBenchError(
            "transfer needs the same classes in both data sets; "
            f"only in the training data: {only_train[:10]}, only in the test data: {only_test[:10]}"
        )
