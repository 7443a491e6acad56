"""The pruners that also update the weights they keep: `obs`, `cap` and `layer-obs`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import Cost, Outline, Pruner, PruningContext, param
from pruningbench_hessian.fields import Blocked
from pruningbench_hessian.scores import ALLOCATION_DOC, Allocation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruningbench.pruning.masks import Masks
    from pruningbench_hessian.fisher import BlockCurvature


@dataclass(frozen=True)
class _BlockSurgeon(Blocked):
    """Rank weights by the block Fisher matrix, prune the lowest and update the others jointly."""

    updates_weights: ClassVar[bool] = True
    bytes_a_weight: ClassVar[int]
    """Bytes per weight for ranking and updating, besides scores and matrices."""

    allocation: Allocation = param("global", doc=ALLOCATION_DOC)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: the matrices, computed twice unless they all fit at once, and the new weights."""
        from pruningbench_hessian.costs import block_cost

        return block_cost(outline, self.samples, self.block_size, self.memory_gb, surgeon=self.bytes_a_weight)

    @abstractmethod
    def _ranking(self, context: PruningContext, curvature: BlockCurvature) -> dict[str, Tensor]:
        """Return for each parameter scores in its shape, higher = keep."""

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return masks and update the kept weights of the network in place; pruned ones become zero."""
        import torch

        from pruningbench.contract import check_scores
        from pruningbench.pruning.allocation import allocate
        from pruningbench.pruning.masks import Masks
        from pruningbench_hessian.fisher import naming
        from pruningbench_hessian.surgeon import joint_update

        curvature = self.curvature(context)
        scores = check_scores(self._ranking(context, curvature), context.parameters)
        masks = allocate(scores, sparsity, self.allocation)
        updated = {}
        for name, gram in curvature:
            parameter = context.parameters[name]
            with naming(self.registered, name):
                parts = []
                for part in gram.steps():
                    matrices = gram.matrices(part)
                    weights = gram.to_blocks(parameter.detach().flatten().to(matrices))[part]
                    kept = gram.to_blocks(masks[name].flatten().to(matrices.device))[part]
                    parts.append(joint_update(matrices, weights, kept))
            updated[name] = gram.from_blocks(torch.cat(parts)).view(parameter.shape)
        _write(context.parameters, updated)
        return Masks(masks, {"sparsity": sparsity})


@dataclass(frozen=True)
class Obs(_BlockSurgeon):
    """Block Fisher with the joint update: prune as `block-fisher` does, then adjust the kept weights.

    The score is ``w^2 / (2 [F^-1]_qq)``. The kept weights of each block move, in place, to the minimum of
    ``dw' F dw / 2`` with all pruned weights at zero. Cost: that of `block-fisher`, twice if the blocks of all
    layers do not fit in ``memory_gb`` together; one more Cholesky factorisation. Needs labels, except with
    ``fisher`` true or gram. Higher = keep. Sources: Hassibi and Stork, Optimal brain
    surgeon (1992); Singh and Alistarh, WoodFisher (NeurIPS 2020).
    """

    registered: ClassVar[str] = "obs"
    bytes_a_weight: ClassVar[int] = 16

    def _ranking(self, context: PruningContext, curvature: BlockCurvature) -> dict[str, Tensor]:
        return curvature.saliencies()


@dataclass(frozen=True)
class Cap(_BlockSurgeon):
    """CAP: greedy Optimal Brain Surgeon inside each block, merged over all blocks, then one joint update.

    In each block the weight with the smallest ``w^2 / (2 [F^-1]_qq)`` is removed first, then weights and F^-1
    are updated, and so on until the block is empty. The removals of all blocks are merged by the running maximum
    of their costs (``merge`` greedy) or by their running sum (cumulative); the last removals in this order are
    kept. The kept weights then get the joint update of `obs`. Cost: passes and memory of `obs`, and block_size^2
    multiplications per weight. Needs labels, except with ``fisher`` true or gram. Source: Kuznedelev, Kurtic,
    Frantar, Alistarh, CAP: Correlation-aware pruning for highly-accurate sparse vision models (NeurIPS 2023).
    """

    registered: ClassVar[str] = "cap"
    bytes_a_weight: ClassVar[int] = 72

    merge: Literal["greedy", "cumulative"] = param(
        "greedy", doc="costs by which removals of blocks are merged: greedy (running maximum) or cumulative"
    )

    def _ranking(self, context: PruningContext, curvature: BlockCurvature) -> dict[str, Tensor]:
        import torch

        from pruningbench_hessian.fisher import naming
        from pruningbench_hessian.surgeon import greedy_removals, merge_keys, removal_ranks

        removals, grams = [], []
        for name, gram in curvature:
            flat = context.parameters[name].detach().flatten()
            counted = gram.to_blocks(torch.ones_like(flat, dtype=torch.bool))
            orders, keys = [], []
            with naming(self.registered, name):
                for part in gram.steps():
                    inverses = gram.inverses(part)
                    weights = gram.to_blocks(flat.to(inverses))[part]
                    order, costs = greedy_removals(inverses, weights, counted[part].to(inverses.device))
                    orders.append(order)
                    keys.append(merge_keys(costs, self.merge))
            removals.append((torch.cat(orders), torch.cat(keys)))
            grams.append((gram.weights, context.parameters[name].shape))
        ranks = removal_ranks(removals)
        return {
            name: rank.flatten()[:weights].view(shape)
            for name, rank, (weights, shape) in zip(context.parameters, ranks, grams, strict=True)
        }


@dataclass(frozen=True)
class LayerObs(Pruner):
    """Layer-wise Optimal Brain Surgeon: preserve each layer's outputs on its inputs by updating its weights.

    Each layer minimises ``||W X - W' X||^2``, whose Hessian for every row is ``H = 2 X X'`` plus damping; for
    convolutions X is the im2col matrix. ``method`` sparsegpt prunes columns from left to right by
    ``w^2 / U_jj^2`` (U is the Cholesky factor of H^-1) and updates the columns to the right; obc removes weights
    row by row by the exact ``w^2 / [H^-1]_qq`` and updates all others. Kept weights change in place. Cost, for d
    inputs per row: one forward pass; with ``rerun`` the memory of all images at one layer and d^2, otherwise the d^2
    of all layers; d^3 + rows d^2 operations with sparsegpt, rows d^3 with obc, which suits small layers only. With
    ``rerun``, networks that use a layer twice or in another order than they define it, and images that hold over
    4 GiB, take one forward pass per layer, with the same masks.
    Needs images, no labels. Higher = keep. Sources: Frantar and Alistarh, SparseGPT (ICML 2023); Frantar,
    Singh, Alistarh, Optimal brain compression (NeurIPS 2022).
    """

    registered: ClassVar[str] = "layer-obs"
    updates_weights: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    method: Literal["sparsegpt", "obc"] = param("sparsegpt", doc="sparsegpt (columns in order) or obc (exact, slow)")
    samples: int = param(256, doc="number of images to use, starting with the first; at least 1")
    damping: float = param(0.01, doc="added to the diagonal of H, as a fraction of its mean; above 0")
    columns: int = param(128, doc="number of columns whose mask sparsegpt chooses at once; at least 1")
    rerun: bool = param(True, doc="take each layer's inputs from the network with the layers before it pruned")
    allocation: Literal["uniform", "uniform-plus", "erk"] = param(
        "uniform", doc="how the sparsity is shared between layers: uniform, uniform-plus or erk"
    )

    def problem(self) -> str | None:
        """Refuse numbers out of range."""
        if not 0 < self.damping < float("inf"):
            return "damping must be above 0 and finite"
        wrong = [name for name in ("samples", "columns") if getattr(self, name) < 1]
        return f"{wrong[0]} must be at least 1" if wrong else None

    def refuses(self, network: nn.Module) -> str | None:
        """Refuse layers that are neither a linear map nor a convolution of their inputs."""
        from pruningbench.pruning.weight_inputs import without_inputs

        return without_inputs(network)

    def cost(self, outline: Outline) -> Cost:
        """Return the cost: one forward pass per layer, or a single one."""
        from pruningbench_hessian.costs import layer_cost

        solver: Literal["greedy", "columns"] = "greedy" if self.method == "obc" else "columns"
        return layer_cost(outline, self.samples, rerun=self.rerun, solver=solver)

    def prune(self, context: PruningContext, sparsity: float) -> Masks:
        """Return masks and update the kept weights of the network in place; pruned ones become zero."""
        from pruningbench.pruning.allocation import layer_keep_counts
        from pruningbench.pruning.masks import Masks
        from pruningbench_hessian.layerwise import for_each_hessian

        parameters = context.parameters
        kept = layer_keep_counts({n: tuple(p.shape) for n, p in parameters.items()}, sparsity, self.allocation)
        dense = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        masks: dict[str, Tensor] = {}
        pruned: dict[str, Tensor] = {}

        def prune_layer(name: str, hessian: Tensor) -> None:
            count = parameters[name].numel() - kept[name]
            pruned[name], masks[name] = self._prune_layer(name, parameters[name], hessian, count)
            _write(parameters, {name: pruned[name]})

        try:
            for_each_hessian(context, self.registered, self.samples, prune_layer, after_changes=self.rerun)
        except BaseException:
            _write(parameters, dense)
            raise
        _write(parameters, pruned)
        return Masks({name: masks[name] for name in parameters}, {"sparsity": sparsity})

    def _prune_layer(self, name: str, parameter: Tensor, hessian: Tensor, prune: int) -> tuple[Tensor, Tensor]:
        from pruningbench.pruning.weight_inputs import by_group
        from pruningbench_hessian.fisher import naming
        from pruningbench_hessian.layerwise import damped, obc, sparsegpt

        weights = by_group(parameter.detach().to(hessian), len(hessian))
        with naming(self.registered, name):
            matrices = damped(hessian, self.damping)
            if self.method == "obc":
                new, mask = obc(weights, matrices, prune)
            else:
                new, mask = sparsegpt(weights, matrices, prune, self.columns)
        return new.view(parameter.shape), mask.view(parameter.shape)


def _write(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    import torch

    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
