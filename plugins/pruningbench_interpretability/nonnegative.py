"""Exact least squares with non-negative coefficients, for many right-hand sides at once.

The method is the active-set method of Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23,
started from a few rounds of coordinate descent. Right-hand sides with the same set of positive coefficients share
one QR factorisation, as in Van Benthem and Keenan, Journal of Chemometrics 18 (2004).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pruningbench_interpretability.factorisation import sweep

TOLERANCE = 1e-15
"""A coefficient stays zero if its gradient is at most this, for rows and components of unit length."""
ROUNDING = 1e-15
"""Rounding error of the product of basis and coefficients, as a share of the coefficients' sum."""
DEPENDENT = 1e-11
"""A column counts as lying in the span of others if its distance from it is at most this share of its length."""
ROUNDS = 10
"""Rounds of coordinate descent, after which most sets of positive coefficients are right or one exchange away."""
ENTRIES = 2**20
"""Maximum number of float64 values in a temporary: rows are solved in chunks."""


@torch.no_grad()
def nnls(matrix: Tensor, components: Tensor) -> Tensor:
    """Return the coefficients >= 0 that minimise the Frobenius norm of matrix - coefficients @ components.

    The result is exact up to float64 rounding: with rows and components scaled to unit length, the gradient of a
    positive coefficient is zero and that of a zero coefficient is at most `TOLERANCE` (the Karush-Kuhn-Tucker
    conditions). Each step lowers the error and ends in the least-squares solution of its positive coefficients, so
    no set recurs and the method terminates. If components are linearly dependent, one of several minimisers is
    returned; components of which one is closer than `DEPENDENT` to the span of the others are never used together.

    Args:
        matrix: (..., N, D) float.
        components: (..., rank, D) float; where a component is zero, so are its coefficients.

    Returns:
        (..., N, rank) >= 0, in the matrix's dtype and on its device.

    Raises:
        ValueError: for NaN and infinite values, and for rows or components whose squared length exceeds float64.
    """
    count, (rank, width) = matrix.shape[-2], components.shape[-2:]
    shape = torch.Size(np.broadcast_shapes(matrix.shape[:-2], components.shape[:-2]))
    if not shape.numel() * count * rank * width:
        return matrix.new_zeros(*shape, count, rank)
    if matrix.device.type == "mps":  # has no float64
        return nnls(matrix.cpu(), components.cpu()).to(matrix.device)
    if components.ndim == 2:  # one basis shared by all
        rows, bases = matrix.reshape(1, -1, width), components[None]
    else:
        rows = matrix.expand(*shape, count, width).reshape(-1, count, width)
        bases = components.expand(*shape, rank, width).reshape(-1, rank, width)
    solved = [
        _on_one_basis(targets_of_basis, basis.double()) for targets_of_basis, basis in zip(rows, bases, strict=True)
    ]
    return torch.stack(solved).to(matrix.dtype).view(*shape, count, rank)


def _on_one_basis(rows: Tensor, basis: Tensor) -> Tensor:
    """Return the coefficients (N, rank) float64 of rows (N, D) on a basis (rank, D) float64."""
    rank, width = basis.shape
    lengths, sizes = _lengths(basis, "components"), basis.new_empty(len(rows))
    # only the projection onto the span of the basis matters: at most rank numbers per row, for any width
    rotation, reduced = torch.linalg.qr((basis / _divisor(lengths)[:, None]).mT)
    square, targets = basis.new_zeros(rank, rank), basis.new_zeros(len(rows), rank)
    square[: len(reduced)] = reduced
    for part, size, target in _pieces(width, rows, sizes, targets):
        row = part.double()
        size.copy_(_lengths(row, "matrix"))
        torch.matmul(row, rotation, out=target[:, : len(reduced)])
    targets /= _divisor(sizes)[:, None]
    coefficients = torch.cat([_solve(square, target) for (target,) in _pieces(rank * rank, targets)])
    return coefficients * (sizes[:, None] / _divisor(lengths))


def _solve(basis: Tensor, targets: Tensor) -> Tensor:
    """Return the coefficients (n, rank) >= 0 of targets (n, rank) on the columns of a basis (rank, rank)."""
    solution = _start(basis, targets)
    errors = _errors(basis, targets, solution)
    refused = torch.zeros_like(solution, dtype=torch.bool)
    open_rows = torch.arange(len(targets), device=targets.device)
    while len(open_rows):
        current = solution[open_rows]
        gradient = (targets[open_rows] - current @ basis.mT) @ basis
        gradient.masked_fill_((current > 0) | refused[open_rows], 0)
        slope, entering = gradient.max(dim=1)
        improvable = slope > TOLERANCE
        open_rows, entering, current = open_rows[improvable], entering[improvable], current[improvable]
        positive = (current > 0).scatter(1, entering[:, None], True)
        tried = _descend(basis, targets[open_rows], current, positive)
        tried_errors = _errors(basis, targets[open_rows], tried)
        better = tried_errors < errors[open_rows]  # otherwise the gradient was rounding; NaN is not better
        solution[open_rows[better]] = tried[better]
        errors[open_rows[better]] = tried_errors[better]
        refused[open_rows[better]] = False
        refused[open_rows[~better], entering[~better]] = True
    return solution


def _start(basis: Tensor, targets: Tensor) -> Tensor:
    """Return least-squares solutions >= 0 on some sets of columns; zeros where rounding spoils them."""
    guess = targets.new_zeros(1, basis.shape[1], len(targets))
    sweep(guess, (basis.mT @ basis)[None], (targets @ basis).mT.contiguous()[None], ROUNDS)
    guess = guess[0].mT.contiguous()
    solution = _descend(basis, targets, guess, guess > 0)
    sound = _errors(basis, targets, solution) < torch.linalg.vector_norm(targets, dim=1)
    return torch.where(sound[:, None], solution, 0)


def _descend(basis: Tensor, targets: Tensor, solution: Tensor, positive: Tensor) -> Tensor:
    """Move from `solution` (n, rank) towards the least-squares solution on the `positive` columns.

    A coefficient that would become negative on the way is fixed at zero, and the move continues towards the
    solution on the remaining columns.
    """
    solution = solution.clone()
    moving = torch.arange(len(targets), device=targets.device)
    while len(moving):
        goal = _least_squares(basis, targets[moving], positive)
        falling = positive & (goal <= 0)
        blocked = falling.any(dim=1)
        solution[moving[~blocked]] = goal[~blocked]
        moving, goal, falling, positive = moving[blocked], goal[blocked], falling[blocked], positive[blocked]
        if not len(moving):
            break
        current = solution[moving]
        share = torch.where(current > 0, current / (current - goal), 0).masked_fill(~falling, torch.inf)
        step, first = share.min(dim=1)
        current = current + step[:, None] * (goal - current)
        positive = (positive & (current > 0)).scatter(1, first[:, None], False)
        solution[moving] = torch.where(positive, current, 0)
    return solution


def _least_squares(basis: Tensor, targets: Tensor, positive: Tensor) -> Tensor:
    """Solve least squares on the `positive` (n, rank) columns: (n, rank), zero elsewhere; NaN for dependent columns."""
    sets, member = _distinct(positive)
    # the columns of a set come first, then zeros, whose rows of the factor are replaced by identity rows
    order = sets.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    used = sets.gather(1, order)
    factor = torch.linalg.qr(basis.mT[order].mT * used[:, None])
    diagonal = factor.R.diagonal(dim1=1, dim2=2)
    dependent = used & (diagonal.abs() <= DEPENDENT)
    diagonal.masked_fill_(~used | dependent, 1)
    inverse = torch.linalg.solve_triangular(factor.R, factor.Q.mT * used[..., None], upper=True)
    inverse = inverse.gather(1, order.argsort(dim=1)[..., None].expand_as(inverse))
    inverse.masked_fill_(dependent.any(dim=1)[:, None, None], torch.nan)
    inverse = inverse[member]
    solution = torch.bmm(inverse, targets[..., None])[..., 0]
    # one refinement step: the product with an inverse alone is less accurate than a solve
    residual = targets - solution @ basis.mT
    return solution + torch.bmm(inverse, residual[..., None])[..., 0]


def _distinct(sets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct rows of bools (n, rank) and the index of each row among them (n,)."""
    member = sets.new_zeros(len(sets), dtype=torch.int64)
    for columns in torch.split(sets, 31, dim=1):
        bits = columns.long() << torch.arange(columns.shape[1], device=sets.device)
        member = torch.unique(member << 31 | bits.sum(dim=1), return_inverse=True)[1]
    count = int(member.max()) + 1
    example = member.new_zeros(count).scatter_(0, member, torch.arange(len(sets), device=sets.device))
    return sets[example], member


def _errors(basis: Tensor, targets: Tensor, solution: Tensor) -> Tensor:
    """Return the residual lengths (n,) plus the rounding error possible for coefficients of that size.

    Without the second term, large coefficients on linearly dependent columns appear to fit.
    """
    left: Tensor = torch.linalg.vector_norm(targets - solution @ basis.mT, dim=1)
    return left + ROUNDING * solution.abs().sum(dim=1)


def _pieces(entries: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors with equal numbers of rows, `entries` float64 per row, into chunks that fit a cache."""
    return zip(*(torch.split(tensor, max(ENTRIES // max(entries, 1), 1)) for tensor in tensors), strict=True)


def _lengths(rows: Tensor, name: str) -> Tensor:
    """Return the lengths (N,) float64 of rows (N, D)."""
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1)
    if not bool(lengths.isfinite().all()):
        raise ValueError(f"{name} must be finite, and the norm of each row at most 1e150")
    return lengths


def _divisor(lengths: Tensor) -> Tensor:
    return torch.where(lengths > 0, lengths, 1)
