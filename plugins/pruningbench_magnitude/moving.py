"""The pruners `gradual`, `movement` and `rigl`: masks that move while the network trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import MovingPruner, PruningContext, param
from pruningbench_magnitude.schedule import CubicSchedule, span_problem

if TYPE_CHECKING:
    from pruningbench.contract import Motion

_ALLOCATION = "how the sparsity is shared between layers: "
_BEGIN = "share of the training before the first pruning, in [0, 1)"
_END = "share of the training after which the masks stay as they are, in (0, 1]"


@dataclass(frozen=True)
class Gradual(MovingPruner):
    """Prune the smallest weights a little at a time while the network trains.

    Formula: s = s_f + (s_i - s_f) (1 - tau)^3, where tau is the completed share of the schedule. Each pruning
    removes the weights with the smallest abs(w); none returns.
    Cost: one training; a sort of the weights at each pruning.
    Needs: labelled data, and training (recipe ``finetune``, or its own).
    Source: Zhu and Gupta, To prune, or not to prune (2017), equation 1.
    """

    title: ClassVar[str] = "gradual"

    initial: float = param(0.0, doc="sparsity at the start of training, in [0, 1)")
    begin: float = param(0.0, doc=_BEGIN)
    end: float = param(0.75, doc=_END)
    interval: int = param(10, doc="steps between two prunings, >= 1")
    allocation: Literal["global", "uniform", "uniform-plus", "erk"] = param(
        "global", doc=_ALLOCATION + "global, uniform, uniform-plus or erk"
    )

    def problem(self) -> str | None:
        """Check ranges."""
        if not 0 <= self.initial < 1:
            return f"initial is {self.initial:g}, but must be in [0, 1)"
        return super().problem() or span_problem(self.begin, self.end, self.interval)

    def motion(self, context: PruningContext, sparsity: float, steps: int) -> Motion:
        """Return the motion that prunes gradually."""
        from pruningbench_magnitude.motions import GradualMotion

        schedule = CubicSchedule.over(steps, self.initial, sparsity, self.begin, self.end, self.interval)
        return GradualMotion(context.parameters, schedule, self.allocation)


@dataclass(frozen=True)
class Movement(MovingPruner):
    """Keep the weights that fine-tuning moves away from zero.

    Formula: score = -sum over steps of w dL/dw', w' = mask * w. The values of pruned weights are stored; these
    weights are still scored by the straight-through gradient and may return. Sparsity follows the cubic schedule.
    Cost: one training; two further copies of the prunable weights.
    Needs: labelled data, and training (recipe ``finetune``, or its own).
    Source: Sanh et al., Movement pruning (2020), equations 4 to 6, hard version with a cubic schedule.
    """

    title: ClassVar[str] = "movement"

    begin: float = param(0.1, doc=_BEGIN)
    end: float = param(0.75, doc=_END)
    interval: int = param(1, doc="steps between two prunings, >= 1; 1, as published, is far better than large values")
    allocation: Literal["global", "uniform"] = param("uniform", doc=_ALLOCATION + "uniform (as published) or global")

    def problem(self) -> str | None:
        """Check ranges."""
        return super().problem() or span_problem(self.begin, self.end, self.interval)

    def motion(self, context: PruningContext, sparsity: float, steps: int) -> Motion:
        """Return the motion that scores movements."""
        from pruningbench_magnitude.motions import MovementMotion

        schedule = CubicSchedule.over(steps, 0.0, sparsity, self.begin, self.end, self.interval)
        return MovementMotion(context.parameters, schedule, self.allocation)


@dataclass(frozen=True)
class Rigl(MovingPruner):
    """Train sparse from the first step; drop small weights and grow those with large gradients (RigL).

    Formula: every `interval` steps each layer drops the share ``fraction / 2 (1 + cos(pi step / end))`` of its
    kept weights, smallest abs(w) first, and grows as many, largest abs(dL/dw) first, from zero.
    Cost: one training; dense gradients at the steps that move masks.
    Needs: labelled data, and training (recipe ``finetune``, or its own).
    Source: Evci et al., Rigging the lottery (2020), algorithm 1. In the paper training starts from random masks,
    which suits untrained networks; the default here, magnitude, suits trained ones.
    """

    title: ClassVar[str] = "rigl"
    seeded: ClassVar[bool] = True

    start: Literal["magnitude", "random"] = param("magnitude", doc="what chooses the first masks: magnitude or random")
    fraction: float = param(0.3, doc="share of a layer's kept weights that moves initially, in (0, 1)")
    end: float = param(0.75, doc=_END)
    interval: int = param(20, doc="steps between two moves, >= 1 (the paper: 100)")
    allocation: Literal["global", "uniform", "erk"] = param("erk", doc=_ALLOCATION + "global, uniform or erk")

    def problem(self) -> str | None:
        """Check ranges."""
        if not 0 < self.fraction < 1:
            return f"fraction is {self.fraction:g}, but must be in (0, 1)"
        return super().problem() or span_problem(0.0, self.end, self.interval)

    def motion(self, context: PruningContext, sparsity: float, steps: int) -> Motion:
        """Return the motion that starts from the first masks."""
        import torch

        from pruningbench.pruning.allocation import allocate
        from pruningbench.pruning.masks import Masks
        from pruningbench_magnitude.motions import RiglMotion

        parameters = context.parameters
        if self.start == "magnitude":
            scores = {name: p.detach().abs() for name, p in parameters.items()}
        else:
            scores = {n: torch.rand(p.shape, generator=context.generator(n)) for n, p in parameters.items()}
        masks = Masks(allocate(scores, sparsity, self.allocation))
        return RiglMotion(parameters, masks, self.fraction, max(round(self.end * steps), 1), self.interval)
