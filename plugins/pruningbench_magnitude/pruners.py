"""The pruners `random` and `magnitude`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, PruningContext, ScorePruner, param

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.pruning.masks import Masks

MASKING = "S + 6 W + 9 Wmax: state, scores, masks"
_ALLOCATION = "how the sparsity is shared between layers: "


@dataclass(frozen=True)
class Random(ScorePruner):
    """Prune weights at random: the baseline that every other pruner has to beat.

    The score is ``u ~ U(0, 1)``. Each parameter has its own random stream, so its scores depend only on the
    seed and its name.
    Cost: memory of the scores. Needs nothing. Source: the usual baseline; how well it does with a good
    allocation: Liu et al., The unreasonable effectiveness of random pruning (ICLR 2022).
    """

    seeded: ClassVar[bool] = True
    cache_scores: ClassVar[bool] = False

    allocation: Literal["global", "uniform", "erk"] = param(
        "global", doc=_ALLOCATION + "global, uniform or erk", scores=False
    )

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: no pass, float32 scores, and the masks."""
        return Cost(0, 0, 0, outline.masking_bytes, MASKING)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return a random score in [0, 1) for each weight."""
        import torch

        return {
            name: torch.rand(parameter.shape, generator=context.generator(name)).to(parameter.device)
            for name, parameter in context.parameters.items()
        }


@dataclass(frozen=True)
class Magnitude(ScorePruner):
    """Prune the smallest weights, by one threshold or per layer (uniform, uniform+, ERK, LAMP).

    The score is ``|w|``, or for LAMP ``w^2 / sum of v^2`` over the weights v of the layer with ``|v| >= |w|``.
    Cost: memory of the scores, and for LAMP one sort of each layer. Needs nothing. Sources: Han et al.,
    Learning both weights and connections (2015); uniform+: Gale et al., The state of sparsity (2019); ERK:
    Evci et al., Rigging the lottery (2020); LAMP: Lee et al., Layer-adaptive sparsity (2021).
    """

    cache_scores: ClassVar[bool] = False

    allocation: Literal["global", "uniform", "uniform-plus", "erk", "lamp"] = param(
        "global", doc=_ALLOCATION + "global, uniform, uniform-plus, erk or lamp", scores=False
    )

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: no pass, the magnitudes and the masks; LAMP sorts one layer at a time in float64."""
        if self.allocation != "lamp":
            return Cost(0, 0, 0, outline.masking_bytes, MASKING)
        memory = outline.state_bytes + 14 * outline.weights + 88 * outline.largest
        return Cost(0, 0, 0, memory, "S + 14 W + 88 Wmax: scores in both precisions, masks, the largest layer sorted")

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return the absolute weights."""
        return {name: parameter.detach().abs() for name, parameter in context.parameters.items()}

    def threshold(self, scores: Mapping[str, Tensor], sparsity: float) -> Masks:
        """Turn magnitudes into masks; LAMP rescales them here, so all allocations share the same scores."""
        if self.allocation != "lamp":
            return super().threshold(scores, sparsity)
        from pruningbench.pruning.allocation import allocate
        from pruningbench.pruning.masks import Masks
        from pruningbench_magnitude.lamp import lamp_scores

        rescaled = {name: lamp_scores(score) for name, score in scores.items()}
        return Masks(allocate(rescaled, sparsity, "global"), {"sparsity": sparsity})
