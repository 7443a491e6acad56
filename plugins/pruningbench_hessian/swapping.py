"""The pruner `sparse-swaps`: better masks for each layer, with the weights as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks


@dataclass(frozen=True)
class SparseSwaps(Pruner):
    """SparseSwaps: Wanda's masks, improved by exchanging kept and pruned weights of a row while its error falls.

    The error of a row is the squared change of its outputs, ``r' H r / 2``, where r holds its pruned weights and
    ``H = 2 X X'`` comes from the layer's inputs; for convolutions X is the im2col matrix. Each row starts from the
    mask of `wanda` and makes the swap of one kept and one pruned weight that lowers its error most, until no swap
    lowers it or ``swaps`` have been made, so the error never grows. Every row loses the same share, give or take one
    weight to meet the exact total. Weights that are kept do not change (`layer-obs` changes them).
    Cost: one forward pass, the d^2 numbers of H for all layers, where d is the inputs per row, and for each row and
    swap as many operations as there are pairs of a kept and a pruned weight, which is slow on CPUs for rows of more
    than a thousand weights. With ``rerun`` the d^2 of one layer and the memory of all images at it; networks that
    use a layer twice or in another order than they define it, and images that hold over 4 GiB, then take one forward
    pass per layer, with the same masks.
    Needs images, no labels. Higher = keep. Source: Zimmer, Roux, Wagner, Hendrych, Pokutta, SparseSwaps: tractable
    LLM pruning mask refinement at scale (2025, arXiv 2512.10922).
    """

    registered: ClassVar[str] = "sparse-swaps"
    needs_data: ClassVar[bool] = True

    swaps: int = param(100, doc="most swaps per row; 0 leaves Wanda's masks, at least 0")
    samples: int = param(256, doc="number of images to use, starting with the first; at least 1")
    rerun: bool = param(False, doc="take each layer's inputs from the network with the layers before it pruned")
    allocation: Literal["uniform", "uniform-plus", "erk"] = param(
        "uniform", doc="how the sparsity is shared between layers: uniform, uniform-plus or erk"
    )

    def problem(self) -> str | None:
        """Refuse numbers out of range."""
        if self.swaps < 0:
            return "swaps must be at least 0"
        return "samples must be at least 1" if self.samples < 1 else None

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse layers that are neither a linear map nor a convolution of their inputs."""
        from pruningbench.pruning.weight_inputs import without_inputs

        return without_inputs(network)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: one forward pass, and the matrices of the rows that are improved at a time."""
        from pruningbench_hessian.costs import layer_cost

        return layer_cost(outline, self.samples, rerun=self.rerun, solver="swaps")

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return masks; their provenance states for each layer the share of Wanda's error that is left.

        Raises:
            PruningBenchError: without images, or if no linear map or convolution uses one of the parameters.
            ScoreError: if the inputs of a layer are NaN or infinite.
        """
        import torch

        from pruningbench.pruning.allocation import layer_keep_counts
        from pruningbench.pruning.masks import Masks
        from pruningbench_hessian.layerwise import for_each_hessian

        parameters = context.parameters
        kept = layer_keep_counts({n: tuple(p.shape) for n, p in parameters.items()}, sparsity, self.allocation)
        dense = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        masks: dict[str, Tensor] = {}
        shares: dict[str, float] = {}

        def choose(name: str, hessian: Tensor) -> None:
            parameter = parameters[name]
            masks[name], shares[name] = self._mask(name, parameter, hessian, parameter.numel() - kept[name])
            if self.rerun:
                with torch.no_grad():
                    parameter.masked_fill_(~masks[name].to(parameter.device), 0)

        try:
            for_each_hessian(context, self.registered, self.samples, choose, after_changes=self.rerun)
        finally:
            with torch.no_grad():
                for name, values in dense.items():
                    parameters[name].copy_(values)
        error_left = {name: shares[name] for name in parameters}
        return Masks({name: masks[name] for name in parameters}, {"sparsity": sparsity, "error_left": error_left})

    def _mask(self, name: str, parameter: nn.Parameter, hessian: Tensor, prune: int) -> tuple[Tensor, float]:
        from pruningbench.contract import check_scores
        from pruningbench.pruning.weight_inputs import by_group
        from pruningbench_hessian.layerwise import row_mask
        from pruningbench_hessian.swaps import row_errors, swapped

        gram = hessian / 2
        weights = by_group(parameter.detach().to(hessian), len(hessian))
        scores = weights.abs() * gram.diagonal(dim1=1, dim2=2).sqrt().unsqueeze(1)
        check_scores({name: scores.view(parameter.shape)}, {name: parameter})
        start = row_mask(scores.flatten(0, 1), prune).view(weights.shape)
        mask = swapped(weights, gram, start, self.swaps)
        before, after = (float(row_errors(weights, gram, m).sum()) for m in (start, mask))
        return mask.view(parameter.shape), after / before if before > 0 else 1.0
