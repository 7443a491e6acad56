"""Layer-wise criteria: weights and the inputs they multiply, one layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pruningbench.contract import PruningContext
from pruningbench.pruning.allocation import Allocation, layer_keep_counts
from pruningbench.pruning.carried import MOST_CARRIED, carry, probe
from pruningbench.pruning.top_k import keep_highest
from pruningbench.pruning.weight_inputs import in_double, weights_times_inputs
from pruningbench_hessian.blocks import cholesky
from pruningbench_hessian.costs import STEP_ENTRIES
from pruningbench_hessian.inputs import for_each_input
from pruningbench_hessian.surgeon import greedy_removals, joint_update


def wanda_scores(context: PruningContext, pruner: str, samples: int, *, per_channel: bool) -> dict[str, Tensor]:
    """Return ``|w_ij| * ||X_j||_2``, float64 in the parameters' shapes.

    Raises:
        PruningBenchError: without images, or for a parameter that multiplies no inputs.
    """
    images = (images for images, _ in context.first_images(pruner, samples))
    return weights_times_inputs(context.network, context.parameters, images, pruner=pruner, per_channel=per_channel)


class LayerHessians:
    """``H = 2 X X'`` of layers, (groups, d, d) float64; X covers all images and positions."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}

    def add(self, name: str, first: int, groups: int, columns: Tensor) -> None:
        """Add inputs of a layer, given as in `watch_inputs`."""
        columns = in_double(columns)
        total = self._totals.setdefault(name, columns.new_zeros(groups, columns.shape[1], columns.shape[1]))
        total[first : first + len(columns)] += 2 * columns @ columns.transpose(1, 2)

    def pop(self, name: str) -> Tensor:
        """Return the matrices of a layer, and forget them."""
        return self._totals.pop(name)


def for_each_hessian(
    context: PruningContext,
    pruner: str,
    samples: int,
    use: Callable[[str, Tensor], None],
    *,
    after_changes: bool,
) -> None:
    """Call `use` with the name and the matrices of each layer, in the order of the parameters.

    Args:
        context: the network, its parameters and images.
        pruner: name for messages.
        samples: number of images, starting with the first.
        use: may change the values of the layer.
        after_changes: take the inputs of a layer from the network with the layers before it changed. All images then
            go through the network together, or for each layer anew, if the network uses a layer twice or in another
            order, or if its activations are too large (`carried.MOST_CARRIED`).

    Raises:
        PruningBenchError: without images, or if no linear map or convolution uses one of the parameters.
    """
    hessians = LayerHessians()
    names = list(context.parameters)
    if after_changes:
        batches = [images for images, _ in context.first_images(pruner, samples)]
        network, watched = context.network, context.parameters
        order, held = probe(network, watched, batches, pruner)
        if order == names and held <= MOST_CARRIED:
            carry(network, watched, batches, hessians.add, lambda name: use(name, hessians.pop(name)))
            return
    for group in [[name] for name in names] if after_changes else [names]:
        for_each_input(context, group, pruner, samples, hessians.add)
        for name in group:
            use(name, hessians.pop(name))


def damped(hessians: Tensor, share: float) -> Tensor:
    """Return (groups, d, d) matrices, with `share` times each matrix's mean diagonal added to its diagonal."""
    means = hessians.diagonal(dim1=1, dim2=2).mean(1)
    added = torch.where(means > 0, share * means, 1.0)  # where inputs are always zero, weights rank by magnitude
    return hessians + torch.diag_embed(added.unsqueeze(1).expand(-1, hessians.shape[1]))


def row_masks(scores: Mapping[str, Tensor], sparsity: float, allocation: Allocation) -> dict[str, Tensor]:
    """Return masks that prune the same number of weights in each row of a layer, give or take one.

    Rows whose next weight scores lowest prune the remainder of the division. Exactly
    ``round(sparsity * total)`` weights are pruned; among equal scores the first are kept.
    """
    kept = layer_keep_counts({name: tuple(s.shape) for name, s in scores.items()}, sparsity, allocation)
    return {
        name: row_mask(score.flatten(1), score.numel() - kept[name]).view(score.shape) for name, score in scores.items()
    }


def row_mask(scores: Tensor, prune: int) -> Tensor:
    """Return a mask of (rows, d) scores that prunes `prune` weights, the same number in each row give or take one.

    Ties and the remainder of the division are decided as in `row_masks`.
    """
    per_row, remainder = divmod(prune, len(scores))
    # stable and flipped: among equal scores the last weight comes first, since it is pruned first
    order = scores.shape[1] - 1 - scores.flip(1).argsort(dim=1, stable=True)
    mask = torch.ones_like(scores, dtype=torch.bool).scatter_(1, order[:, :per_row], False)
    if remainder:
        following = order[:, per_row : per_row + 1]
        more = ~keep_highest([scores.gather(1, following)], remainder)[0]
        mask.scatter_(1, following, ~more)
    return mask


def sparsegpt(weights: Tensor, hessians: Tensor, prune: int, columns: int = 128) -> tuple[Tensor, Tensor]:
    """Prune columns from left to right; the columns to the right compensate for each removal.

    Args:
        weights: (groups, rows, d) float64.
        hessians: (groups, d, d) float64, damped.
        prune: total number of weights to prune, at most all of them.
        columns: number of columns whose mask is chosen at once by ``w^2 / U_jj^2``, where U is the upper Cholesky
            factor of the inverse; each such block prunes its share of `prune`, and the shares add up exactly.

    Returns:
        The new weights, and a bool mask of the same shape, True = kept; pruned weights are exactly zero.

    Raises:
        PruningBenchError: if a matrix is not positive-definite.

    Source: Frantar and Alistarh, SparseGPT (ICML 2023), algorithm 1.
    """
    upper = cholesky(torch.cholesky_inverse(cholesky(hessians))).transpose(1, 2)
    left, mask = weights.clone(), torch.ones_like(weights, dtype=torch.bool)
    width = weights.shape[2]
    for start in range(0, width, columns):
        stop = min(start + columns, width)
        pivots = upper.diagonal(dim1=1, dim2=2)[:, start:stop]
        share = round(prune * stop / width) - round(prune * start / width)
        scores = (left[..., start:stop] / pivots.unsqueeze(1)).square()
        mask[..., start:stop] = keep_highest([scores], share)[0]
        errors = torch.zeros_like(scores)
        for j in range(start, stop):
            error = left[..., j].masked_fill(mask[..., j], 0) / upper[:, j, j].unsqueeze(1)
            left[..., j:stop] -= error.unsqueeze(2) * upper[:, j, j:stop].unsqueeze(1)
            errors[..., j - start] = error
        left[..., stop:] -= errors @ upper[:, start:stop, stop:]
    return left.masked_fill(~mask, 0), mask


def obc(weights: Tensor, hessians: Tensor, prune: int) -> tuple[Tensor, Tensor]:
    """Prune each row by exact greedy Optimal Brain Surgeon.

    The `prune` removals of lowest cost over all rows decide how many weights each row loses, in its own order.
    Arguments, results and errors are those of `sparsegpt`.

    Source: Frantar, Singh, Alistarh, Optimal brain compression (NeurIPS 2022), algorithm 1 and section 4.
    """
    groups, rows, width = weights.shape
    flat = weights.reshape(groups * rows, width)
    group_of_row = torch.arange(groups, device=flat.device).repeat_interleave(rows)
    inverses = torch.cholesky_inverse(cholesky(hessians))
    parts = torch.split(torch.arange(len(flat), device=flat.device), max(1, STEP_ENTRIES // width**2))
    traces = [
        greedy_removals(inverses[group_of_row[part]], flat[part], torch.ones_like(flat[part], dtype=torch.bool))
        for part in parts
    ]
    orders, costs = torch.cat([order for order, _ in traces]), torch.cat([cost for _, cost in traces])
    counts = (~keep_highest([costs], prune)[0]).sum(1, keepdim=True)
    steps = torch.arange(width, device=flat.device)
    mask = torch.empty_like(costs, dtype=torch.bool).scatter_(1, orders, steps >= counts)
    new = torch.cat([joint_update(hessians[group_of_row[part]], flat[part], mask[part]) for part in parts])
    return new.view(weights.shape), mask.view(weights.shape)
