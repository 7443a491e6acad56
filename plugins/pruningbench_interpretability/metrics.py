"""Metrics of saliency maps.

A map of zeros or NaN, as a network without gradients gives, is undefined for all of them: NaN, counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.components import Attributions, Metric, Outputs, param

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gini(Metric):
    """Gini index of a map's absolute values; higher = the relevance sits on fewer pixels.

    Source: Chalasani et al., ICML 2020.
    """

    consumes = Attributions
    range = (0.0, 1.0)

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [0, 1)."""
        from pruningbench_interpretability.complexity import gini

        return gini(outputs.maps)


@dataclass(frozen=True)
class _Localisation(Metric):
    """A metric that compares maps with object masks."""

    consumes = Attributions
    unit = "fraction"
    range = (0.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether the data set has object masks."""
        return isinstance(outputs, Attributions) and outputs.masks is not None


@dataclass(frozen=True)
class RelevanceMass(_Localisation):
    """Share of a map's relevance inside the object mask; higher is better, the mask's area is chance.

    NaN for an empty mask. Source: Arras, Osman and Samek, Information Fusion 81 (2022).
    """

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [0, 1]."""
        from pruningbench_interpretability.localisation import relevance_mass

        return relevance_mass(outputs.maps, _masks(outputs))


@dataclass(frozen=True)
class RelevanceRank(_Localisation):
    """Share of the K most relevant pixels inside the object mask of K pixels; higher is better.

    Ties are broken by index. NaN for an empty mask. Source: Arras, Osman and Samek, Information Fusion
    81 (2022).
    """

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [0, 1]."""
        from pruningbench_interpretability.localisation import relevance_rank

        return relevance_rank(outputs.maps, _masks(outputs))


@dataclass(frozen=True)
class Deletion(Metric):
    """Area under the probability of the explained class while relevant pixels are removed; lower is better.

    Pixels go in decreasing relevance (ties by index) to zero in normalised units, in steps of equal
    size; trapezoid over the removed share. The explained class is the one predicted on the whole image.
    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018.
    """

    consumes = Attributions
    higher_is_better = False
    unit = "probability"
    range = (0.0, 1.0)

    steps: int = param(16, doc="number of steps from the whole image to an empty one, >= 1")

    def problem(self) -> str | None:
        """Refuse less than one step."""
        return None if self.steps >= 1 else f"steps must be at least 1, got {self.steps}"

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [0, 1]."""
        from pruningbench_interpretability.perturbation import area_under_curve, deletion_curve

        curve = deletion_curve(
            outputs.predict,
            outputs.images,
            outputs.maps,
            outputs.targets,
            steps=self.steps,
            batch_size=outputs.batch_size,
        )
        return area_under_curve(curve)


def _masks(outputs: Attributions) -> Tensor:
    if outputs.masks is None:
        raise ValueError("these attributions come without object masks")
    return outputs.masks
