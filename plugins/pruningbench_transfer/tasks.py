"""Tasks on the classes of one data set: the network's own head, and classifiers on its frozen features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pruningbench.contract import (
    ACCURACY,
    Context,
    DatasetRef,
    GroupedPredictions,
    Predictions,
    PruningBenchError,
    Task,
    VisionModel,
    param,
)


@dataclass(frozen=True)
class Classification(Task):
    """The network's own predictions on a data set.

    Classes are matched by name: the data set may list them in another order or have only some of the network's.
    A class that the network lacks is an error. A network whose head comes from texts (CLIP) does this zero-shot.
    """

    dimension: ClassVar[str] = ACCURACY
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    data: DatasetRef = param(doc="labelled data set whose classes the network knows")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Predictions]]:
        """Yield the logits of all samples."""
        from pruningbench_transfer.labels import labels_in

        samples = context.open_dataset(self.data)
        if not model.classes:
            raise PruningBenchError("the network has no classifier: use the task 'transfer' for its features")
        labels = labels_in(model.classes, samples, whose="the network")
        yield "", Predictions(context.logits(model, samples), labels, probabilistic=True)


@dataclass(frozen=True)
class Calibration(Classification):
    """How reliable the network's own class probabilities are; see `Classification`."""

    dimension: ClassVar[str] = "calibration"
    metrics: ClassVar[tuple[str, ...]] = ("ece", "nll", "brier")


@dataclass(frozen=True)
class Transfer(Task):
    """Classes predicted from frozen features, fitted on one data set and tested on another.

    Variants: ``knn`` (weighted nearest neighbours; ``knn-10``, ``knn-20`` ... for several k) and
    ``linear-probe`` (logistic regression).
    """

    version: ClassVar[int] = 2
    dimension = "transfer"
    metrics = ("accuracy",)
    main_data = "test"

    train: DatasetRef = param(doc="labelled data set for fitting the classifiers")
    test: DatasetRef = param(doc="labelled data set of the same classes for testing")
    k: tuple[int, ...] = param((20,), doc="numbers of neighbours, >= 1; capped at the number of training samples")
    temperature: float = param(0.07, doc="a neighbour's vote is exp(cosine / temperature); > 0")
    C: float = param(1.0, doc="linear probe: inverse strength of the l2 penalty, > 0")

    def problem(self) -> str | None:
        """Refuse values out of range."""
        if not self.k or min(self.k) < 1 or len(set(self.k)) < len(self.k):
            return f"k must list different numbers of at least 1, got {list(self.k)}"
        if not self.temperature > 0:
            return f"temperature must be positive, got {self.temperature}"
        return None if self.C > 0 else f"C must be positive, got {self.C}"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Predictions]]:
        """Yield one variant per classifier."""
        from pruningbench_transfer.labels import shared_labels
        from pruningbench_transfer.neighbours import knn_scores_for
        from pruningbench_transfer.probe import linear_probe

        fitted, tested = context.open_dataset(self.train), context.open_dataset(self.test)
        labels, truth = shared_labels(fitted, tested)
        classes = len(fitted.classes)
        train, test = context.features(model, fitted), context.features(model, tested)
        bank, queries = train.to(context.device), test.to(context.device)
        votes = knn_scores_for(bank, labels, queries, self.k, self.temperature, classes=classes)
        for k, scores in zip(self.k, votes, strict=True):
            yield "knn" if len(self.k) == 1 else f"knn-{k}", Predictions(scores.cpu(), truth)
        yield "linear-probe", Predictions(linear_probe(train, labels, test, self.C, classes=classes), truth, True)


@dataclass(frozen=True)
class FewShot(Task):
    """Few-shot classification from frozen features: nearest class mean of a few images, over many episodes.

    An episode draws `ways` classes, and for each class `shots` images to learn from and `queries` images to predict.
    All models and pruners get the same episodes. Each number of shots is a variant; samples are episodes.
    """

    dimension = "transfer"
    metrics = ("accuracy",)

    data: DatasetRef = param(doc="labelled data set with classes on which the network was not trained")
    ways: int = param(5, doc="classes per episode, >= 2")
    shots: tuple[int, ...] = param((1, 5), doc="images per class to learn from, >= 1; one variant each")
    queries: int = param(15, doc="images per class to predict, >= 1")
    episodes: int = param(600, doc="number of episodes, >= 1")

    def problem(self) -> str | None:
        """Refuse values out of range."""
        if self.ways < 2 or self.queries < 1 or self.episodes < 1:
            return "ways must be at least 2, queries and episodes at least 1"
        if not self.shots or min(self.shots) < 1 or len(set(self.shots)) < len(self.shots):
            return f"shots must list different numbers of at least 1, got {list(self.shots)}"
        return None

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, GroupedPredictions]]:
        """Yield one variant per number of shots: one group per episode."""
        import torch

        from pruningbench_transfer.episodes import draw_episodes, prototype_scores

        samples = context.open_dataset(self.data)
        if samples.labels is None:
            raise PruningBenchError("the data set has no labels to predict")
        for shots in self.shots:
            try:
                drawn = draw_episodes(
                    samples.labels, self.ways, shots, self.queries, self.episodes, context.generator("episodes", shots)
                )
            except ValueError as error:
                raise PruningBenchError(str(error)) from error
            features = context.features(model, samples).to(context.device)
            some = max(1, 2**24 // (self.ways * (shots + self.queries) * features.shape[1]))  # 128 MiB in float64
            pairs = zip(torch.split(drawn.support, some), torch.split(drawn.query.flatten(1), some), strict=True)
            scores = [prototype_scores(features[support], features[query]) for support, query in pairs]
            yield f"{shots}-shot", GroupedPredictions(torch.cat(scores).cpu(), drawn.labels)
