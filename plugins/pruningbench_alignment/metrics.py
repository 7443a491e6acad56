"""Metrics of comparisons, label distributions, maps and similarities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pruningbench.contract import (
    HumanLabelCounts,
    HumanOddOneOut,
    HumanTwoAlternatives,
    Metric,
    Outputs,
    Responses,
    commonest,
)
from pruningbench_alignment.outputs import MapPairs, Similarities

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.contract.statistics import Floats

CLICKME_CEILING = 0.65753
"""Spearman correlation between people's own ClickMe maps (Fel et al., 2022)."""


@dataclass(frozen=True)
class OddOneOutAccuracy(Metric):
    """Share of triplets in which the model finds the same image odd as people do; higher is better.

    Chance is 1/3. The ceiling is how often one person agrees with the others, on triplets judged more than
    once. NaN for a triplet with an embedding of NaN.
    Source: Hebart et al., Nature Human Behaviour 2020.
    """

    consumes = Responses
    unit = "fraction"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether people judged triplets."""
        return isinstance(outputs, Responses) and isinstance(outputs.human, HumanOddOneOut)

    def values(self, outputs: Responses) -> Tensor:
        """(T,) float64: 1 for the same choice, 0 for another."""
        human = outputs.human
        assert isinstance(human, HumanOddOneOut)  # noqa: S101 - `applies`
        same = (outputs.answers.cpu() == human.odd).double()
        return same.masked_fill(outputs.answers.cpu() < 0, float("nan"))

    def chance(self, outputs: Responses) -> Tensor | None:
        """(T,) float64 of always naming the most frequent odd position, about 1/3."""
        human = outputs.human
        assert isinstance(human, HumanOddOneOut)  # noqa: S101 - `applies`
        constant = commonest(human.odd)
        return None if constant is None else (human.odd == constant).double()

    def ceiling(self, outputs: Responses) -> float | None:
        """Agreement of one judgement with another of the same triplet; None if each was judged once."""
        from pruningbench_alignment.triplets import repeated_agreement

        human: Any = outputs.human
        return repeated_agreement(human.triplets, human.odd)


@dataclass(frozen=True)
class TwoAlternativeAgreement(Metric):
    """Share of people who agree with the model on which of two images is closer to a reference; higher is better.

    A model for which both are equally close gets half of each side. Chance is 1/2, and the ceiling is the
    majority's share. NaN for a triplet with an embedding of NaN.
    Source: Zhang et al., The unreasonable effectiveness of deep features, CVPR 2018; Fu et al.,
    DreamSim, NeurIPS 2023.
    """

    consumes = Responses
    unit = "fraction"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether people chose between two alternatives."""
        return isinstance(outputs, Responses) and isinstance(outputs.human, HumanTwoAlternatives)

    def values(self, outputs: Responses) -> Tensor:
        """(T,) float64 in [0, 1]."""
        right = self._right(outputs)
        assert outputs.probabilities is not None  # noqa: S101 - the task gives them
        chosen = outputs.probabilities.double().cpu()  # left, right
        return chosen[:, 0] * (1 - right) + chosen[:, 1] * right

    def chance(self, outputs: Responses) -> Tensor:
        """(T,) float64 of always naming the side that people name more often, about 1/2."""
        right = self._right(outputs)
        return right if float(right.mean()) > 1 / 2 else 1 - right

    def ceiling(self, outputs: Responses) -> float:
        """Mean share of the majority."""
        right = self._right(outputs)
        return float(right.maximum(1 - right).mean())

    def _right(self, outputs: Responses) -> Tensor:
        human = outputs.human
        assert isinstance(human, HumanTwoAlternatives)  # noqa: S101 - `applies`
        return human.right.double()


@dataclass(frozen=True)
class _OfLabels(Metric):
    consumes = Responses
    higher_is_better = False
    unit = "nats"
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))

    def applies(self, outputs: Outputs) -> bool:
        """Whether people labelled the images."""
        return isinstance(outputs, Responses) and isinstance(outputs.human, HumanLabelCounts)


@dataclass(frozen=True)
class HumanCrossEntropy(_OfLabels):
    """Cross-entropy of the network's probabilities to people's label distributions; lower is better.

    The ceiling, here the lowest possible value, is people's own entropy. NaN where nobody answered or the
    network's logits are NaN.
    Source: Peterson et al., ICCV 2019.
    """

    def values(self, outputs: Responses) -> Tensor:
        """(N,) float64 nats >= 0."""
        return _cross_entropy(outputs)

    def chance(self, outputs: Responses) -> Tensor:
        """(N,) float64 of the best constant answer: the label shares over all images."""
        human: Any = outputs.human
        shares = human.counts.double().sum(dim=0)
        return _cross_entropy(replace(outputs, probabilities=(shares / shares.sum()).expand(human.counts.shape)))

    def ceiling(self, outputs: Responses) -> float:
        """Mean entropy of people's labels."""
        from pruningbench_alignment.softlabels import human_entropy

        human: Any = outputs.human
        return float(human_entropy(human.counts).nanmean())


@dataclass(frozen=True)
class HumanDivergence(_OfLabels):
    """Kullback-Leibler divergence from people's label distributions to the network's; lower is better.

    This is the cross-entropy minus people's own entropy, which no network can lower. NaN where nobody answered or
    the network's logits are NaN.
    Source: Peterson et al., ICCV 2019.
    """

    def values(self, outputs: Responses) -> Tensor:
        """(N,) float64 nats >= 0, up to rounding."""
        from pruningbench_alignment.softlabels import human_entropy

        human: Any = outputs.human
        return (_cross_entropy(outputs) - human_entropy(human.counts)).clamp_min(0)


def _cross_entropy(outputs: Responses) -> Tensor:
    import torch

    from pruningbench_alignment.softlabels import human_cross_entropy

    human: Any = outputs.human
    assert outputs.probabilities is not None  # noqa: S101 - the task gives them
    # a probability that underflows float64 gets the largest loss that float64 can represent: 708 nats
    least = torch.finfo(torch.float64).tiny
    return human_cross_entropy(outputs.probabilities.double().cpu().clamp_min(least), human.counts)


@dataclass(frozen=True)
class MapAlignment(Metric):
    """Rank correlation of the model's and people's maps, as a share of people's own; higher is better.

    Spearman's correlation over an image's pixels, divided by .65753, the correlation of people's ClickMe maps with
    each other. NaN for a map that is constant or contains a NaN.
    Source: Fel et al., Harmonizing the object recognition strategies of deep neural networks with humans,
    NeurIPS 2022.
    """

    consumes = MapPairs
    unit = "of human ceiling"
    range: ClassVar[tuple[float, float]] = (-1 / CLICKME_CEILING, 1 / CLICKME_CEILING)

    def values(self, outputs: MapPairs) -> Tensor:
        """(N,) float64."""
        from pruningbench_alignment.similarity import spearman

        return spearman(outputs.maps.flatten(1), outputs.human.flatten(1)).cpu() / CLICKME_CEILING

    def ceiling(self, outputs: MapPairs) -> float:
        """1: people compared with each other."""
        return 1.0


@dataclass(frozen=True)
class SimilarityCorrelation(Metric):
    """Rank correlation of the model's and people's similarities over all pairs of images; higher is better.

    Intervals resample images, not pairs. An image with an embedding of NaN is NaN.
    Source: Kriegeskorte et al., Representational similarity analysis, Frontiers in Systems Neuroscience 2008.
    """

    consumes = Similarities
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def values(self, outputs: Similarities) -> Tensor:
        """(N, 1 + 2 N) float64, see `pruningbench_alignment.similarity.similarity_rows`."""
        from pruningbench_alignment.similarity import similarity_rows

        return similarity_rows(outputs.model, outputs.human)

    def aggregate(self, values: Floats) -> float:
        """Spearman's correlation over all pairs."""
        from pruningbench_alignment.similarity import row_correlation

        return row_correlation(values)
