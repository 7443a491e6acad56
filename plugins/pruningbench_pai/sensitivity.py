"""Pruners based on the sensitivity of the loss: SNIP, iterative SNIP, FORCE and GraSP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, ScorePruner, param

if TYPE_CHECKING:
    from torch import Tensor

    from pruningbench.pruning.masks import Masks

_ALLOCATION = "how the sparsity is shared between layers: global, uniform or erk"


@dataclass(frozen=True)
class Snip(ScorePruner):
    """Keep the weights whose removal changes the loss most: ``|w g|``, high = keep.

    g is the gradient of the mean cross-entropy over all scoring samples, summed with its sign before
    the absolute value is taken. Cost: one forward and backward pass over the data. Needs labels.
    Source: Lee, Ajanthan, Torr, SNIP (ICLR 2019), equation 6, without the division by the sum.
    """

    needs_data: ClassVar[bool] = True

    batches: int | None = param(None, doc="number of scoring batches to use; null = all")
    allocation: Literal["global", "uniform", "erk"] = param("global", doc=_ALLOCATION, scores=False)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: one pass over the data."""
        from pruningbench_pai.costs import gradient_cost

        return gradient_cost(outline, self.batches)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return ``|w g|`` by name, in the dtype of the weights."""
        from pruningbench_pai.functional import at_rest
        from pruningbench_pai.loss import loss_gradient

        with at_rest(context, "snip"):
            gradient = loss_gradient(context, context.parameters, "snip")
            return {name: (p.detach() * gradient[name]).abs() for name, p in context.parameters.items()}


@dataclass(frozen=True)
class Grasp(ScorePruner):
    """Keep the weights whose removal lowers the gradient flow most: ``w (H g)``, signed, high = keep.

    g and H are the gradient and Hessian of the mean cross-entropy of ``logits / temperature`` over all
    scoring samples; both passes see the same samples. Removing w changes g'g by ``-2 w (H g)`` to
    first order, so the largest scores are kept; the absolute value is never taken. Cost: one forward
    and backward pass, and one with second derivatives (about twice the memory). Needs labels, 10 to 25
    samples per class. The head is scored with its own weights, not reinitialised.
    Source: Wang, Zhang, Grosse, GraSP (ICLR 2020), equation 8, whose S is minus this score.
    """

    needs_data: ClassVar[bool] = True

    temperature: float = param(200.0, doc="divisor of the logits, > 0")
    batches: int | None = param(None, doc="number of scoring batches to use; null = all")
    allocation: Literal["global", "uniform", "erk"] = param("global", doc=_ALLOCATION, scores=False)

    def problem(self) -> str | None:
        """Refuse a temperature that is not positive."""
        return None if self.temperature > 0 else f"temperature must be above 0, got {self.temperature}"

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: two passes over the data, the second differentiated twice."""
        from pruningbench_pai.costs import hessian_cost

        return hessian_cost(outline, self.batches)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return ``w (H g)`` by name, in the dtype of the weights."""
        from pruningbench_pai.functional import at_rest
        from pruningbench_pai.loss import hessian_gradient

        with at_rest(context, "grasp"):
            product = hessian_gradient(context, context.parameters, "grasp", self.temperature)
            return {name: p.detach() * product[name] for name, p in context.parameters.items()}


@dataclass(frozen=True)
class _SnipInRounds(Pruner):
    needs_data: ClassVar[bool] = True
    revival: ClassVar[bool]
    title: ClassVar[str]

    batches: int | None = param(None, doc="number of scoring batches to use; null = all")
    rounds: int = param(100, doc="rounds, >= 1; the density falls as density^(k / rounds)")

    def problem(self) -> str | None:
        """Refuse fewer than one round."""
        return None if self.rounds >= 1 else f"rounds must be at least 1, got {self.rounds}"

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: one pass over the data per round."""
        from pruningbench_pai.costs import gradient_cost

        return gradient_cost(outline, self.batches, self.rounds)

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Score the masked network and prune, round by round."""
        from pruningbench_pai.functional import at_rest
        from pruningbench_pai.loss import loss_gradient
        from pruningbench_pai.rounds import score_in_rounds

        def score(masks: Mapping[str, Tensor], _round: int) -> dict[str, Tensor]:
            masked = {name: p.detach() * masks[name] for name, p in context.parameters.items()}
            gradient = loss_gradient(context, masked, self.title)
            return {name: (p.detach() * gradient[name]).abs() for name, p in context.parameters.items()}

        with at_rest(context, self.title):
            return score_in_rounds(context, sparsity, self.rounds, score, self.title, revival=self.revival)


@dataclass(frozen=True)
class IterativeSnip(_SnipInRounds):
    """SNIP in rounds: ``|w g(w * mask)|`` of the network pruned so far, high = keep; no weight returns.

    With one round it is SNIP. Cost: one forward and backward pass over the data per round. Needs labels.
    Sources: de Jorge et al., Progressive skeletonization (ICLR 2021), iterative SNIP; Verdenius et
    al., Pruning via iterative ranking of sensitivity statistics (2020).
    """

    revival: ClassVar[bool] = False
    title: ClassVar[str] = "iterative-snip"


@dataclass(frozen=True)
class Force(_SnipInRounds):
    """FORCE: ``|w g(w * mask)|`` with the dense w, high = keep; a pruned weight may return.

    g is the gradient at the pruned network, for pruned weights too, and every round ranks all weights
    again. Cost: one forward and backward pass over the data per round. Needs labels.
    Source: de Jorge et al., Progressive skeletonization: trimming more fat from a network at
    initialization (ICLR 2021), equation 7.
    """

    revival: ClassVar[bool] = True
    title: ClassVar[str] = "force"
