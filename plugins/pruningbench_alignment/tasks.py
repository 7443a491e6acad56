"""Tasks on comparisons, label distributions, maps and similarities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from pruningbench.contract import (
    Context,
    DatasetRef,
    HumanLabelCounts,
    HumanMaps,
    HumanOddOneOut,
    HumanSimilarity,
    HumanTwoAlternatives,
    PruningBenchError,
    Responses,
    Samples,
    Task,
    VisionModel,
    param,
)
from pruningbench_alignment.outputs import MapPairs, Similarities

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract import HumanResponses

H = TypeVar("H", bound="HumanResponses")


@dataclass(frozen=True)
class OddOneOut(Task):
    """Which of three images is odd: the one outside the pair with the most similar embeddings.

    Source: Hebart et al., Nature Human Behaviour 2020 (THINGS).
    """

    dimension = "alignment"
    metrics = ("odd-one-out-accuracy",)
    example = {"data": "things"}  # noqa: RUF012 - a constant of a frozen dataclass

    data: DatasetRef = param(doc="images with people's choices among triplets")
    similarity: Literal["cosine", "dot"] = param("cosine", doc="similarity of embeddings")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Responses]]:
        """Yield the choices on all triplets."""
        from pruningbench_alignment.triplets import odd_one_out

        samples, human = _open(context, self.data, HumanOddOneOut, "odd-one-out")
        embeddings = _embeddings_of(model, context, samples, human.triplets)
        yield "", Responses(odd_one_out(embeddings, human.triplets, self.similarity), human)


@dataclass(frozen=True)
class Nights(Task):
    """Which of two images is closer to a reference, by the similarity of their embeddings.

    Source: Fu et al., DreamSim, NeurIPS 2023 (NIGHTS).
    """

    dimension = "alignment"
    metrics = ("two-alternative-agreement",)
    example = {"data": "nights"}  # noqa: RUF012 - a constant of a frozen dataclass

    data: DatasetRef = param(doc="images with people's choices between two alternatives")
    similarity: Literal["cosine", "dot"] = param("cosine", doc="similarity of embeddings")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Responses]]:
        """Yield the choices on all triplets: 0 = left, 1 = right, -1 = neither."""
        import torch

        from pruningbench_alignment.triplets import closer_one

        samples, human = _open(context, self.data, HumanTwoAlternatives, "nights")
        right = closer_one(_embeddings_of(model, context, samples, human.triplets), human.triplets, self.similarity)
        answers = torch.where((right == 0) | (right == 1), right, -1.0).long()
        yield "", Responses(answers, human, torch.stack([1 - right, right], dim=1))


@dataclass(frozen=True)
class SoftLabels(Task):
    """The network's class probabilities compared with the shares of people who chose each class.

    Source: Peterson et al., Human uncertainty makes classification more robust, ICCV 2019 (CIFAR-10H).
    """

    dimension = "alignment"
    metrics = ("human-cross-entropy", "human-kl")

    data: DatasetRef = param(doc="images with the numbers of people who chose each class")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Responses]]:
        """Yield the probabilities of the data set's classes; those of other classes are dropped."""
        import torch

        samples, human = _open(context, self.data, HumanLabelCounts, "soft-labels")
        if human.counts.shape != (len(samples), len(samples.classes)):
            raise PruningBenchError(
                f"soft-labels: {len(samples)} images of {len(samples.classes)} classes, "
                f"but human labels of shape {tuple(human.counts.shape)}"
            )
        lacking = [name for name in samples.classes if name not in model.classes]
        if lacking:
            raise PruningBenchError(
                f"label spaces differ: the network has no class {lacking[0]!r} "
                f"({len(lacking)} of the data set's {len(samples.classes)} classes are missing)"
            )
        columns = torch.tensor([model.classes.index(name) for name in samples.classes])
        probabilities = context.logits(model, samples).double().softmax(dim=1)[:, columns]
        answers = probabilities.argmax(dim=1).masked_fill(probabilities.isnan().any(dim=1), -1)
        yield "", Responses(answers, human, probabilities)


@dataclass(frozen=True)
class ClickMe(Task):
    """Gradient maps of the labelled class compared with maps of what people found important.

    Source: Linsley et al., Learning what and where to attend, ICLR 2019; Fel et al., NeurIPS 2022.
    """

    dimension = "alignment"
    metrics = ("map-alignment",)

    data: DatasetRef = param(doc="images with people's importance maps")
    count: int | None = param(None, doc="use the first samples only; none = all")

    def problem(self) -> str | None:
        """Refuse a count below one."""
        return f"count must be at least 1, got {self.count}" if self.count is not None and self.count < 1 else None

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, MapPairs]]:
        """Yield maps in the pixels of the network's input."""
        import torch

        from pruningbench_alignment.similarity import gradient_maps

        samples, human = _open(context, self.data, HumanMaps, "clickme")
        if len(human.maps) != len(samples):
            raise PruningBenchError(f"clickme: {len(samples)} images, but {len(human.maps)} maps")
        chosen = range(len(samples) if self.count is None else min(self.count, len(samples)))
        labels = model.labels_of(samples)
        fitted = torch.stack([model.preprocessing.fit_map(human.maps[i].float()) for i in chosen])
        maps = []
        for batch in model.batches(samples, context.batch_size, index=chosen):
            targets = torch.full_like(batch.index, -1) if labels is None else labels[batch.index.cpu()]
            maps.append(gradient_maps(model, batch.images, targets).cpu())
        if any(part.shape[1:] != fitted.shape[1:] for part in maps):
            raise PruningBenchError(
                f"clickme: maps of {tuple(fitted.shape[1:])} pixels for images of {tuple(maps[0].shape[1:])}"
            )
        yield "", MapPairs(torch.cat(maps), fitted)


@dataclass(frozen=True)
class RepresentationalSimilarity(Task):
    """How similar the embeddings of two images are, compared with how similar people find the images.

    Source: Kriegeskorte et al., Frontiers in Systems Neuroscience 2008.
    """

    dimension = "alignment"
    metrics = ("rsa-correlation",)

    data: DatasetRef = param(doc="images with people's judgements of similarity")
    similarity: Literal["pearson", "cosine"] = param("pearson", doc="similarity of embeddings")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Similarities]]:
        """Yield both matrices of similarities."""
        from pruningbench_alignment.similarity import similarity_matrix

        samples, human = _open(context, self.data, HumanSimilarity, "rsa")
        if human.similarity.shape != (len(samples), len(samples)):
            raise PruningBenchError(f"rsa: {len(samples)} images, but similarities {tuple(human.similarity.shape)}")
        if len(samples) < 3:
            raise PruningBenchError(f"rsa needs at least 3 images, for pairs to compare; there are {len(samples)}")
        matrix = similarity_matrix(context.features(model, samples), self.similarity)
        yield "", Similarities(matrix, human.similarity)


def _open(context: Context, reference: DatasetRef, answer_type: type[H], task: str) -> tuple[Samples, H]:
    samples = context.open_dataset(reference)
    if not isinstance(samples.human, answer_type):
        has = "no human answers" if samples.human is None else type(samples.human).__name__
        raise PruningBenchError(f"{task} needs data with {answer_type.__name__}, but this data set has {has}")
    return samples, samples.human


def _embeddings_of(model: VisionModel, context: Context, samples: Samples, triplets: Tensor) -> Tensor:
    """Return the embeddings (N, D) of all samples; samples in no triplet are not computed and stay zero."""
    from pruningbench_alignment.triplets import check_triplets

    try:
        check_triplets(triplets, len(samples))
    except ValueError as error:
        raise PruningBenchError(f"the human answers do not fit the images: {error}") from None
    if not len(triplets):
        raise PruningBenchError("the human answers name no triplets")
    positions = sorted(set(triplets.flatten().tolist()))
    rows = context.features(model, samples, positions)
    embeddings = rows.new_zeros(len(samples), rows.shape[1])
    embeddings[positions] = rows
    return embeddings
