"""The pruner `oba`: Optimal Brain Apoptosis, the second-order terms between a weight and all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, PruningContext, ScorePruner, param
from pruningbench_hessian.scores import ALLOCATION_DOC, Allocation

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Oba(ScorePruner):
    """Optimal Brain Apoptosis: second-order change of the loss that a weight shares with all others, ``|w (H w)|``.

    If all weights are removed together, w_i takes part in the second-order term of the loss with
    ``sum_j H_ij w_i w_j``, H the Hessian of the mean cross-entropy over the images. `obd` and `block-hessian` leave out
    the weights of other layers; `grasp` has the gradient in place of the second w. The product H w is exact, by double
    backward with w as the direction, as in the authors' later code (FastOBA); their first version sums the terms
    between pairs of connected layers only. Signs cancel over the images, and the absolute value is taken last. With
    ``labels: model`` the loss is the cross-entropy with the model's own probabilities. The defaults score as the paper
    defines it; the authors' unstructured experiments also divide by the largest score of each layer (``normalise:
    max``) and add ``|w|``, there divided by the largest weight of the network (``add_magnitude``). Weights are not
    updated. Cost: one forward pass, and about three backward passes, of 16 images at a time. Needs labels, unless they
    are the model's. Higher = keep.
    Source: Sun et al., Optimal Brain Apoptosis (ICLR 2025); the product: Pearlmutter, Fast exact multiplication by the
    Hessian (1994).
    """

    registered: ClassVar[str] = "oba"
    needs_data: ClassVar[bool] = True

    labels: Literal["given", "model"] = param(
        "given", doc="targets of the loss: given labels, or the model's own output"
    )
    samples: int = param(1024, doc="number of images to use, starting with the first; at least 1")
    normalise: Literal["none", "mean", "max"] = param(
        "none", doc="divisor of the scores: none, or the mean or largest score of each parameter"
    )
    add_magnitude: bool = param(False, doc="add |w| / max |w| over all prunable weights, against vanishing gradients")
    allocation: Allocation = param("global", doc=ALLOCATION_DOC, scores=False)

    def problem(self) -> str | None:
        """Refuse a number of samples below 1."""
        return "samples must be at least 1" if self.samples < 1 else None

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse batch norms without running statistics: their outputs mix samples."""
        from pruningbench_hessian.fisher import unsuited

        return unsuited(network)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: the gradient and one product with the Hessian."""
        from pruningbench_hessian.costs import interaction_cost

        return interaction_cost(outline, self.samples)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return float64 scores >= 0.

        Raises:
            PruningBenchError: without images or labels, or for products that are NaN or infinite.
        """
        from pruningbench.pruning.weight_inputs import in_double
        from pruningbench_hessian.probing import interactions

        terms = interactions(context, self.samples, labels=self.labels == "given", pruner=self.registered)
        scores = {name: term.abs() for name, term in terms.items()}
        if self.normalise != "none":
            for name, score in scores.items():
                unit = score.mean() if self.normalise == "mean" else score.max()
                scores[name] = score / unit if unit > 0 else score
        if self.add_magnitude:
            largest = max(float(p.detach().abs().max()) for p in context.parameters.values())
            for name, parameter in context.parameters.items():
                scores[name] = scores[name] + in_double(parameter.detach()).abs() / (largest or 1.0)
        return scores
