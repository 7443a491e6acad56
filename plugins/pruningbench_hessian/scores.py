"""The pruners that only score: `obd`, `taylor`, `block-fisher` and `wanda`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, PruningContext, ScorePruner, param
from pruningbench_hessian.fields import Blocked, Sampled

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks

ALLOCATION_DOC = "how the sparsity is shared between layers: global, uniform, uniform-plus or erk"
Allocation = Literal["global", "uniform", "uniform-plus", "erk"]


@dataclass(frozen=True)
class Obd(Sampled, ScorePruner):
    """Optimal Brain Damage: prune the weights whose removal costs least in a diagonal quadratic model of the loss.

    The score is ``w^2 E[g^2] / 2``, where g is the gradient of a single sample: the mean of squares, not the
    square of the mean. Cost: one backward pass per sample, float64 memory of twice the weights. Needs labels,
    except with ``fisher`` true or gram. Higher = keep. Source: LeCun, Denker, Solla, Optimal brain damage (1990);
    the Fisher diagonal in place of the Hessian's: Theis et al., Faster gaze prediction (2018).
    """

    registered: ClassVar[str] = "obd"

    allocation: Allocation = param("global", doc=ALLOCATION_DOC, scores=False)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return float64 scores >= 0."""
        from pruningbench_hessian.fisher import mean_of_gradients

        return mean_of_gradients(context, self.sampling(), lambda g, w: (g * w).square() / 2)


@dataclass(frozen=True)
class Taylor(Sampled, ScorePruner):
    """First-order Taylor: prune the weights whose removal changes the loss least to first order.

    The score is ``mean (g w)^2``, ``mean |g w|`` or ``|mean g w|`` over samples, as the field ``reduction``
    says. The first ranks weights as `obd` does on the same samples. Cost: one backward pass per sample, float64
    memory of twice the weights. Needs labels, except with ``fisher`` true or gram. Higher = keep.
    Source: Molchanov et al., Importance estimation for neural network pruning (CVPR 2019), equation 8.
    """

    registered: ClassVar[str] = "taylor"

    reduction: Literal["mean-square", "mean-abs", "abs-mean"] = param(
        "mean-square", doc="reduction over samples: mean-square, mean-abs, or abs-mean (signs may cancel)"
    )
    allocation: Allocation = param("global", doc=ALLOCATION_DOC, scores=False)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return float64 scores >= 0."""
        from pruningbench_hessian.fisher import mean_of_gradients

        if self.reduction == "mean-square":
            return mean_of_gradients(context, self.sampling(), lambda g, w: (g * w).square())
        if self.reduction == "mean-abs":
            return mean_of_gradients(context, self.sampling(), lambda g, w: (g * w).abs())
        means = mean_of_gradients(context, self.sampling(), lambda g, w: g * w)
        return {name: mean.abs() for name, mean in means.items()}


@dataclass(frozen=True)
class BlockFisher(Blocked, ScorePruner):
    """Block Fisher: Optimal Brain Surgeon's saliency of single weights, with correlations within blocks.

    The score is ``w^2 / (2 [F^-1]_qq)``, where F = damping I + mean g g' in blocks of consecutive weights.
    Weights are not updated (`obs` updates them). Cost: one backward pass per sample for each group of layers,
    whose blocks take weights x min(block_size, samples) numbers and never more than ``memory_gb``; one
    batched Cholesky factorisation. Needs labels, except with ``fisher`` true or gram. Higher = keep.
    Sources: Singh and Alistarh, WoodFisher (NeurIPS 2020); Kurtic et al., The optimal BERT surgeon (2022).
    """

    registered: ClassVar[str] = "block-fisher"

    allocation: Allocation = param("global", doc=ALLOCATION_DOC, scores=False)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return float64 scores >= 0."""
        return self.curvature(context).saliencies()


@dataclass(frozen=True)
class Wanda(ScorePruner):
    """Wanda: magnitudes times the norms of their inputs, compared within each output.

    The score is ``|w_ij| * ||X_j||_2`` over all tokens, positions and images. For convolutions the norms are
    those of the im2col columns (``conv_norm`` columns), or of each input channel without padding (channels).
    Every output row loses the same share, give or take one weight to meet the exact total. The inputs are those
    of the dense network: they are not recomputed after each pruned layer. Cost: one forward pass, memory of the
    scores. Needs images, no labels. Higher = keep. Source: Sun, Liu, Bair,
    Kolter, A simple and effective pruning approach for large language models (ICLR 2024).
    """

    registered: ClassVar[str] = "wanda"
    needs_data: ClassVar[bool] = True

    samples: int = param(1024, doc="number of images to use, starting with the first; at least 1")
    conv_norm: Literal["columns", "channels"] = param(
        "columns", doc="input norms of convolutions: of each im2col column, or of each input channel"
    )
    group: Literal["row", "layer", "global"] = param(
        "row", doc="where weights are compared: within each output row, each layer, or the network", scores=False
    )
    allocation: Literal["uniform", "uniform-plus", "erk"] = param(
        "uniform", doc="how the sparsity is shared between layers, unless the group is global", scores=False
    )

    def problem(self) -> str | None:
        """Refuse a number of samples below 1."""
        return "samples must be at least 1" if self.samples < 1 else None

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse layers that are neither a linear map nor a convolution of their inputs."""
        from pruningbench.pruning.weight_inputs import without_inputs

        return without_inputs(network)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: one forward pass."""
        from pruningbench_hessian.costs import input_cost

        return input_cost(outline, self.samples)

    def score(self, context: PruningContext) -> dict[str, Tensor]:
        """Return float64 scores >= 0."""
        from pruningbench_hessian.layerwise import wanda_scores

        return wanda_scores(context, self.registered, self.samples, per_channel=self.conv_norm == "channels")

    def threshold(self, scores: Mapping[str, Tensor], sparsity: float) -> Masks:
        """Prune within rows, layers or the network: exactly ``round(sparsity * prunable)`` weights in total."""
        from pruningbench.pruning.allocation import allocate
        from pruningbench.pruning.masks import Masks
        from pruningbench_hessian.layerwise import row_masks

        if self.group == "row":
            masks = row_masks(scores, sparsity, self.allocation)
        else:
            masks = allocate(scores, sparsity, "global" if self.group == "global" else self.allocation)
        return Masks(masks, {"sparsity": sparsity})
