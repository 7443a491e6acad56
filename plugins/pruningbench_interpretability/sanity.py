"""Metrics of how maps depend on small noise, the network's weights, the class, and pruning.

A map of zeros or NaN, as from a network without gradients, is undefined for all of them: NaN, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Attributions, Metric, Outputs, param

if TYPE_CHECKING:
    from torch import Tensor

Similarity = Literal["rank-correlation", "ssim"]


@dataclass(frozen=True)
class MaxSensitivity(Metric):
    """Largest relative change of a map when the image varies within a small box; lower is better.

    Source: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019; by captum.
    """

    consumes = Attributions
    higher_is_better = False
    range = (0.0, float("inf"))

    radius: float = param(0.02, doc="half the side of the box around the image, in normalised units, > 0")
    draws: int = param(10, doc="number of points drawn in the box, each of which is explained, >= 1")

    def problem(self) -> str | None:
        """Refuse numbers out of range."""
        if not self.radius > 0:
            return f"radius must be positive, got {self.radius}"
        return None if self.draws >= 1 else f"draws must be at least 1, got {self.draws}"

    def applies(self, outputs: Outputs) -> bool:
        """Whether the images can be explained again."""
        return isinstance(outputs, Attributions) and outputs.explain is not None

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 >= 0."""
        from pruningbench_interpretability.stability import max_sensitivity

        if outputs.explain is None:
            raise ValueError("the attributions cannot be recomputed")
        return max_sensitivity(
            outputs.explain, outputs.images, outputs.targets,
            radius=self.radius, samples=self.draws, seed=outputs.seed, index=outputs.index or None,
            batch_size=outputs.batch_size,
        )  # fmt: skip


@dataclass(frozen=True)
class Infidelity(Metric):
    """Squared error of a map's prediction of how noise changes the explained class's logit; lower is better.

    In squared logits, after the best scaling of the attributions. A method that returns only maps is taken to
    apply equally to every channel. Source: Yeh et al., NeurIPS 2019; by captum.
    """

    consumes = Attributions
    higher_is_better = False
    range = (0.0, float("inf"))

    noise: float = param(0.2, doc="standard deviation of the noise, in normalised units, > 0")
    draws: int = param(32, doc="noisy copies per image, >= 1")

    def problem(self) -> str | None:
        """Refuse numbers out of range."""
        if not self.noise > 0:
            return f"noise must be positive, got {self.noise}"
        return None if self.draws >= 1 else f"draws must be at least 1, got {self.draws}"

    def applies(self, outputs: Outputs) -> bool:
        """Whether the network has a classifier."""
        return isinstance(outputs, Attributions) and outputs.predict is not None

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 >= 0."""
        from pruningbench_interpretability.stability import infidelity

        signed = outputs.signed
        return infidelity(
            outputs.logits or outputs.classifier, outputs.images,
            outputs.maps[:, None].expand_as(outputs.images) if signed is None else signed, outputs.targets,
            noise=self.noise, samples=self.draws, seed=outputs.seed, index=outputs.index or None,
            batch_size=outputs.batch_size,
        )  # fmt: skip


@dataclass(frozen=True)
class _Alike(Metric):
    """A metric of how similar maps are to other maps of the same images."""

    consumes = Attributions
    higher_is_better = False
    range = (-1.0, 1.0)

    similarity: Similarity = param("rank-correlation", doc="Spearman's rank correlation of the pixels, or SSIM")

    def applies(self, outputs: Outputs) -> bool:
        """Whether the images can be explained again."""
        return isinstance(outputs, Attributions) and outputs.explain is not None


@dataclass(frozen=True)
class ModelRandomisation(_Alike):
    """Similarity of maps to those of the network with random weights; lower = maps reflect what was learned.

    Pruned weights are randomised as well. With several stages the layers are randomised from the last to the
    first, and the value is the mean over the stages. Source: Adebayo et al., Sanity Checks for Saliency Maps,
    NeurIPS 2018.
    """

    stages: int = param(1, doc="stages of a cascade from the last layer; 1 = all layers at once")

    def problem(self) -> str | None:
        """Refuse fewer than one stage."""
        return None if self.stages >= 1 else f"stages must be at least 1, got {self.stages}"

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [-1, 1]."""
        import torch

        if outputs.explain is None:
            raise ValueError("the attributions cannot be recomputed")
        similarities = []
        for stage in range(1, self.stages + 1):
            explain = outputs.explain.randomised(outputs.seed, stage / self.stages)
            similarities.append(_compare(outputs.maps, explain(outputs.images, outputs.targets), self.similarity))
        return torch.stack(similarities).mean(dim=0)


@dataclass(frozen=True)
class RandomLogit(_Alike):
    """Similarity of maps to those of a random other class; lower = maps depend on the class.

    It is 1 for methods that ignore the class, such as attention. Source: Sixt, Granz and Landgraf, When
    Explanations Lie, ICML 2020.
    """

    def applies(self, outputs: Outputs) -> bool:
        """Whether there are other classes to explain."""
        return super().applies(outputs) and isinstance(outputs, Attributions) and outputs.predict is not None

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [-1, 1]."""
        from pruningbench_interpretability.stability import other_classes

        if outputs.explain is None:
            raise ValueError("the attributions cannot be recomputed")
        if not len(outputs.images):
            return outputs.maps.new_empty(0)
        classes = outputs.classifier(outputs.images[:1]).shape[1]
        others = other_classes(outputs.targets, classes, seed=outputs.seed, index=outputs.index or None)
        return _compare(outputs.maps, outputs.explain(outputs.images, others), self.similarity)


@dataclass(frozen=True)
class _LikeDense(Metric):
    """A metric of how similar maps are to the dense model's."""

    consumes = Attributions
    range = (-1.0, 1.0)
    _similarity: ClassVar[Similarity]

    def applies(self, outputs: Outputs) -> bool:
        """Whether there is a dense model to compare with."""
        return isinstance(outputs, Attributions) and outputs.dense_maps is not None

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [-1, 1]."""
        if outputs.dense_maps is None:
            raise ValueError("the attributions of the dense model are missing")
        return _compare(outputs.maps, outputs.dense_maps(), self._similarity)


@dataclass(frozen=True)
class MapRankCorrelation(_LikeDense):
    """Spearman's correlation of a map's pixels with the dense model's map; higher = more similar.

    Each model explains the class that it predicts itself, unless the task says otherwise.
    """

    _similarity = "rank-correlation"


@dataclass(frozen=True)
class MapSsim(_LikeDense):
    """Structural similarity of a map to the dense model's map of the same image; higher = more similar.

    Each model explains the class that it predicts itself, unless the task says otherwise. Source: Wang et
    al., IEEE TIP 13 (2004).
    """

    _similarity = "ssim"


def _compare(first: Tensor, second: Tensor, similarity: Similarity) -> Tensor:
    from pruningbench_interpretability.ranking import is_ranked
    from pruningbench_interpretability.similarity import rank_correlation, structural_similarity

    measure = rank_correlation if similarity == "rank-correlation" else structural_similarity
    return measure(first, second).masked_fill(~(is_ranked(first) & is_ranked(second)), float("nan"))
