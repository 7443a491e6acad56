"""Pruners that preserve the neural tangent kernel: NTK-SAP and PX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class NtkSap(Pruner):
    """Keep the weights that the spectrum of the tangent kernel depends on, high = keep.

    The score is ``|d/dm sum over draws of ||f(x; m w) - f(x; m (w + epsilon D))||^2|`` with x and D
    drawn from N(0, 1), in rounds over which the density falls as density^(k / rounds); a pruned weight
    never returns. The weights w are either ``fresh`` in each draw, as in the paper (Kaiming normal, batch
    norm with scale 1, no shift and the statistics of the noise), or the network's own (``given``, with
    its own statistics). The network itself always keeps its weights. Cost: rounds x draws forward and
    backward passes of two networks on `batch_size` noise images. Needs no data and no labels, only
    the input size. Source: Wang et al., NTK-SAP (ICLR 2023), algorithm 1.
    """

    seeded: ClassVar[bool] = True

    rounds: int = param(20, doc="rounds, >= 1; the density falls as density^(k / rounds)")
    draws: int = param(5, doc="draws of noise and weights per round, >= 1")
    epsilon: float = param(0.01, doc="size of the perturbation of the weights, > 0")
    weights: Literal["fresh", "given"] = param(
        "fresh", doc="fresh (newly drawn, as in the paper) or given (the network's own)"
    )
    batch_size: int = param(64, doc="noise images per draw, >= 1")
    image_size: int = param(0, doc="side of the input in pixels; 0 = that of the batches, or the network's own")

    def problem(self) -> str | None:
        """Refuse counts below one and a non-positive epsilon."""
        for name in ("rounds", "draws", "batch_size"):
            if getattr(self, name) < 1:
                return f"{name} must be at least 1, got {getattr(self, name)}"
        return None if self.epsilon > 0 else f"epsilon must be above 0, got {self.epsilon}"

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: two networks on the noise of each draw."""
        from pruningbench_pai.costs import kernel_cost

        return kernel_cost(outline, self.rounds, self.draws, self.batch_size)

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Score the masked network and prune, round by round."""
        from pruningbench_pai.functional import at_rest, input_shape
        from pruningbench_pai.rounds import score_in_rounds
        from pruningbench_pai.tangents import draw_noise, kernel_scores

        with at_rest(context, "ntk-sap") as network:
            shape = (self.batch_size, *input_shape(context, self.image_size, "ntk-sap"))

            def score(masks: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
                draws = (
                    draw_noise(context, shape, f"{number}/{draw}", fresh=self.weights == "fresh")
                    for draw in range(self.draws)
                )
                return kernel_scores(network, masks, draws, self.epsilon, fresh=self.weights == "fresh")

            return score_in_rounds(context, sparsity, self.rounds, score, "ntk-sap")


@dataclass(frozen=True)
class PathExclusion(Pruner):
    """PX: keep the weights on the paths that carry the trace of the tangent kernel, high = keep.

    The score is ``w^2 |dR/dw^2|``, R = sum over samples and outputs of z1 z2. z1 is the network with all
    prunable weights set to one, run on x^2 with the ReLU gates that the pruned network has on x; z2 is the
    network with weights w^2, run on ones without ReLU. Everything is computed in float64, in rounds over
    which the density falls as density^(k / rounds); a pruned weight never returns. With ``path`` batch norm
    is the identity in z1 and a scaling by ``scale^2 / variance`` in z2, without biases. With ``code`` batch
    norm, biases and classifier are unchanged, as in the authors' code for networks with ordinary layers.
    With ``code-train`` z1 and z2 normalise by the statistics of each batch, as that code does in training
    mode; scores then depend on the batches. Max pooling is unchanged. Cost: three forward passes and a
    backward pass over the data per round. Needs a class-balanced subset of images, no labels, and a network
    with ReLU.
    Source: Iurada, Ciccone, Tommasi, Finding lottery tickets in vision models via data-driven spectral
    foresight pruning (CVPR 2024), equation 11.
    """

    needs_data: ClassVar[bool] = True

    batches: int | None = param(None, doc="number of scoring batches to use; null = all")
    rounds: int = param(100, doc="rounds, >= 1; the density falls as density^(k / rounds)")
    variant: Literal["path", "code", "code-train"] = param(
        "path",
        doc="path (batch norm as positive scaling), code (batch norm and linear layers untouched) or "
        "code-train (the same, normalised by the statistics of each batch)",
    )

    def problem(self) -> str | None:
        """Refuse fewer than one round."""
        return None if self.rounds >= 1 else f"rounds must be at least 1, got {self.rounds}"

    def refuses(self, network: nn.Module) -> str | None:
        """Return why the network is not a ReLU network, or None."""
        from pruningbench_pai.interception import not_path_like

        return not_path_like(network, smooth=False)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: three passes over the data per round."""
        from pruningbench_pai.costs import path_cost

        return path_cost(outline, self.batches, self.rounds)

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Score the masked network and prune, round by round."""
        from pruningbench.contract import RefusedError
        from pruningbench_pai.functional import at_rest
        from pruningbench_pai.paths import path_scores
        from pruningbench_pai.rounds import score_in_rounds

        reason = self.refuses(context.network)
        if reason:
            raise RefusedError(f"pruner 'px' cannot work on this network: {reason}")

        def score(masks: Mapping[str, Tensor], _round: int) -> dict[str, Tensor]:
            return path_scores(context, masks, self.variant)

        with at_rest(context, "px"):
            return score_in_rounds(context, sparsity, self.rounds, score, "px")
