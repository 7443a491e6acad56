"""Metrics of saliency maps themselves: concentration and localisation.

A map of zeros or NaN, as from a network without gradients, is undefined for all of them: NaN, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pruningbench.contract import Attributions, Metric, Outputs, param

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gini(Metric):
    """Gini index of a map's absolute values; higher = the relevance is on fewer pixels.

    Source: Chalasani et al., ICML 2020.
    """

    consumes = Attributions
    range = (0.0, 1.0)

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [0, 1)."""
        from pruningbench_interpretability.complexity import gini

        return gini(outputs.maps)


@dataclass(frozen=True)
class Entropy(Metric):
    """Entropy of a map's absolute values as shares, in nats; lower = the relevance is on fewer pixels.

    Source: Bhatt, Weller and Moura, IJCAI 2020.
    """

    consumes = Attributions
    higher_is_better = False
    unit = "nats"
    range = (0.0, float("inf"))

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64 in [0, ln(H * W)]."""
        from pruningbench_interpretability.complexity import entropy

        return entropy(outputs.maps)


@dataclass(frozen=True)
class _Localisation(Metric):
    """A metric that compares maps with object masks."""

    consumes = Attributions
    unit = "fraction"
    range = (0.0, 1.0)

    def applies(self, outputs: Outputs) -> bool:
        """Whether the data set has object masks."""
        return isinstance(outputs, Attributions) and outputs.masks is not None

    def chance(self, outputs: Attributions) -> Tensor:
        """(N,) float64 of a map that ignores the image: the mask's share of the area."""
        shares = _masks(outputs).flatten(1).double().mean(dim=1)
        return shares.masked_fill(shares == 0, float("nan"))


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
class PointingGame(_Localisation):
    """Whether the most relevant pixel lies on the object; higher is better, the mask's area is chance.

    NaN for an empty mask. Source: Zhang et al., Excitation Backprop, ECCV 2016.
    """

    tolerance: float = param(0.0, doc="pixels by which a maximum may miss the object, >= 0; the original uses 15")
    ties: Literal["any", "first"] = param(
        "any", doc="with several largest pixels: any may hit, or only the first by index counts"
    )

    def problem(self) -> str | None:
        """Refuse a negative tolerance."""
        return None if self.tolerance >= 0 else f"tolerance must not be negative, got {self.tolerance}"

    def values(self, outputs: Attributions) -> Tensor:
        """(N,) float64, 0 or 1."""
        from pruningbench_interpretability.localisation import pointing_game

        return pointing_game(outputs.maps, _masks(outputs), tolerance=self.tolerance, ties=self.ties)


def _masks(outputs: Attributions) -> Tensor:
    if outputs.masks is None:
        raise ValueError("the attributions have no object masks")
    return outputs.masks
