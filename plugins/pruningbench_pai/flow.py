"""SynFlow: keep the weights that carry the flow from input to output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class SynFlow(Pruner):
    """Keep the weights with the largest synaptic flow ``|w dR/dw|``, R = sum of f(1; |w|), high = keep.

    R is computed in float64 with the absolute values of all weights, on one input of ones, in rounds
    over which the density falls as density^(k / rounds). Cost: one forward and backward pass of one
    image per round. Needs no data and no labels, only the input size.

    Rectifiers (ReLU, and ReLU6, GELU, SiLU and similar as surrogates) pass their input unchanged,
    since the signal is positive. With ``bn-linear`` batch norm scales by ``|scale| / sqrt(variance)``
    without shift, and there are no biases, so the sum of scores is the same in each layer of a chain.
    With ``abs-all`` every parameter and buffer, including running statistics and biases, is replaced by
    its absolute value, as in the authors' code.
    Refuses layer norms, attention and sigmoid gates: they are not positively homogeneous.
    Source: Tanaka, Kunin, Yamins, Ganguli, Pruning neural networks without any data by iteratively
    conserving synaptic flow (NeurIPS 2020), algorithm 1.
    """

    rounds: int = param(100, doc="rounds, >= 1; the density falls as density^(k / rounds)")
    norm: Literal["bn-linear", "abs-all"] = param(
        "bn-linear", doc="batch norm: bn-linear (positive scaling, no shift or bias) or abs-all (all values absolute)"
    )
    image_size: int = param(0, doc="side of the input in pixels; 0 = that of the batches, or the network's own")

    def problem(self) -> str | None:
        """Refuse fewer than one round."""
        return None if self.rounds >= 1 else f"rounds must be at least 1, got {self.rounds}"

    def refuses(self, network: nn.Module) -> str | None:
        """Return why the network is not positively homogeneous in its weights, or None."""
        from pruningbench_pai.interception import not_path_like

        return not_path_like(network, smooth=True)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: one image per round."""
        from pruningbench_pai.costs import flow_cost

        return flow_cost(outline, self.rounds)

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Score the masked network and prune, round by round; a pruned weight never returns."""
        from pruningbench.contract import RefusedError
        from pruningbench_pai.functional import at_rest, input_shape
        from pruningbench_pai.rounds import score_in_rounds
        from pruningbench_pai.synapses import flow_scores, positive_state

        reason = self.refuses(context.network)
        if reason:
            raise RefusedError(f"pruner 'synflow' cannot work on this network: {reason}")
        with at_rest(context, "synflow") as network:
            shape = input_shape(context, self.image_size, "synflow")
            state = positive_state(network, self.norm)

            def score(masks: Mapping[str, Tensor], _round: int) -> dict[str, Tensor]:
                return flow_scores(network, state, masks, shape)

            return score_in_rounds(context, sparsity, self.rounds, score, "synflow")
