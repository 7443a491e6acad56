"""Which weights of a row to prune, improved by exchanging a kept and a pruned weight.

With the rows of a layer apart, the squared change of its outputs is ``r' H r`` for each row, where r holds the pruned
weights and zeros, and H is the Gram matrix of the inputs. In terms of the indicator z of the pruned weights it is
``z' Q z`` with ``Q = diag(w) H diag(w)``, and pruning p while restoring u changes it by
``Q_pp + 2 (Q z)_p + Q_uu - 2 (Q z)_u - 2 Q_pu``.

Source: Zimmer, Roux, Wagner, Hendrych, Pokutta, SparseSwaps (2025, arXiv 2512.10922).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruningbench_hessian.costs import STEP_ENTRIES

_TOLERANCE = 1e-12
"""Smallest change that counts as an improvement, as a share of the squared terms of the error: above rounding."""


def row_errors(weights: Tensor, hessians: Tensor, mask: Tensor) -> Tensor:
    """Return ``r' H r`` of each row, (groups, rows) float64 and >= 0.

    Args:
        weights: (groups, rows, d) float64.
        hessians: (groups, d, d) float64, symmetric and positive semi-definite.
        mask: bool in the shape of the weights, True = kept; r are the pruned weights.
    """
    pruned = weights.masked_fill(mask, 0)
    return ((pruned @ hessians) * pruned).sum(2).clamp(min=0)


def swapped(weights: Tensor, hessians: Tensor, mask: Tensor, most: int) -> Tensor:
    """Return a mask with the same number of kept weights in each row and no larger error.

    In every step each row makes the swap that lowers its error most. A row is done after `most` swaps, or when no
    swap lowers its error.

    Args:
        weights: (groups, rows, d) float64.
        hessians: (groups, d, d) float64, symmetric and positive semi-definite, finite.
        mask: bool in the shape of the weights, True = kept, to start from; it is left unchanged.
        most: most swaps per row, >= 0.
    """
    groups, rows, width = weights.shape
    flat, pruned = weights.reshape(groups * rows, width), ~mask.reshape(groups * rows, width)
    group_of_row = torch.arange(groups, device=flat.device).repeat_interleave(rows)
    slopes = ((weights.masked_fill(mask, 0) @ hessians) * weights).reshape(flat.shape)
    counts = pruned.sum(1)
    pairs = int(counts.max()) * (width - int(counts.min()))
    found = []
    for part in torch.split(torch.arange(len(flat), device=flat.device), max(1, STEP_ENTRIES // max(pairs, 1))):
        rows_of_part = _Rows(flat[part], hessians, group_of_row[part], pruned[part], slopes[part])
        found.append(rows_of_part.descend(most))
    return ~torch.cat(found).view(mask.shape)


class _Rows:
    """Rows of a layer, with lists of their kept and pruned weights, ``-2 Q_pu`` of all pairs, and the slopes ``Q z``.

    The lists are parts of one order, kept weights first. They overlap where rows have different numbers of pruned
    weights; an entry there counts only in the list of its kind, and a swap leaves one of the same kind in its place.
    """

    def __init__(self, weights: Tensor, hessians: Tensor, group: Tensor, pruned: Tensor, slopes: Tensor) -> None:
        self._weights, self._hessians, self._group, self._pruned = weights, hessians, group, pruned
        self._slopes = slopes
        counts, width = pruned.sum(1), pruned.shape[1]
        order = pruned.to(torch.uint8).argsort(dim=1, stable=True)  # kept ones first
        self._kept_at, self._pruned_at = order[:, : width - int(counts.min())], order[:, width - int(counts.max()) :]
        self._squares = hessians.diagonal(dim1=1, dim2=2)[group] * weights.square()
        self._smallest = _TOLERANCE * self._squares.masked_fill(~pruned, 0).sum(1)
        self._pairs = hessians[group[:, None, None], self._kept_at.unsqueeze(2), self._pruned_at.unsqueeze(1)]
        self._pairs *= -2 * weights.gather(1, self._kept_at).unsqueeze(2)
        self._pairs *= weights.gather(1, self._pruned_at).unsqueeze(1)

    def descend(self, most: int) -> Tensor:
        """Swap until no swap lowers the error of a row, `most` times at most; return which weights are pruned."""
        if not self._pairs.numel():
            return self._pruned
        for _ in range(most):
            prune = (self._squares + 2 * self._slopes).masked_fill(self._pruned, torch.inf).gather(1, self._kept_at)
            restore = (self._squares - 2 * self._slopes).masked_fill(~self._pruned, torch.inf)
            lowest, places = (self._pairs + restore.gather(1, self._pruned_at).unsqueeze(1)).min(2)
            best, i = (lowest + prune).min(1)
            rows = (best < -self._smallest).nonzero().flatten()
            if not len(rows):
                break
            self._swap(rows, i[rows], places[rows, i[rows]])
        return self._pruned

    def _swap(self, rows: Tensor, i: Tensor, j: Tensor) -> None:
        """Exchange the i-th kept and the j-th pruned weight of some rows."""
        new, back = self._kept_at[rows, i], self._pruned_at[rows, j]
        self._kept_at[rows, i], self._pruned_at[rows, j] = back, new
        self._pruned[rows, new], self._pruned[rows, back] = True, False
        weights = self._weights[rows]
        of_new, of_back = (
            self._hessians[self._group[rows], at] * weights * self._weights[rows, at].unsqueeze(1) for at in (new, back)
        )
        self._slopes[rows] += of_new - of_back
        self._pairs[rows, i] = -2 * of_back.gather(1, self._pruned_at[rows])
        self._pairs[rows, :, j] = -2 * of_new.gather(1, self._kept_at[rows])
