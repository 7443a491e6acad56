"""Non-negative matrix factorisation, in batches on a device.

Hierarchical alternating least squares (HALS) sets each column of one factor in turn to its exact
minimiser. Cichocki and Phan, Fast Local Algorithms for Large Scale Nonnegative Matrix and Tensor
Factorizations, IEICE Transactions E92-A (2009).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CHECK_EVERY = 10
"""Iterations between checks of the stopping rule, each of which waits for the device."""
WARM_UP = 20
"""Number of first iterations with one round each: fitting a factor closely to a poor one leads to worse minima."""
OVERSAMPLING, POWER_ITERATIONS = 10, 4
"""Oversampling and power iterations of the truncated SVD that initialises the factors."""


class Factors(NamedTuple):
    """A factorisation: the matrix is approximately ``coefficients @ components``.

    Attributes:
        coefficients: (..., N, rank) >= 0.
        components: (..., rank, D) >= 0.
    """

    coefficients: Tensor
    components: Tensor


@torch.no_grad()
def nmf(
    matrix: Tensor,
    rank: int,
    *,
    init: tuple[Tensor, Tensor] | None = None,
    iterations: int = 400,
    tolerance: float = 1e-4,
    sweeps: int = 4,
    seed: int = 0,
) -> Factors:
    """Factorise non-negative matrices: minimise the Frobenius norm of matrix - coefficients @ components.

    An iteration updates the coefficients and then the components, each in `sweeps` rounds over the rank
    (one in the first 20 iterations). The product with the matrix, the costly part, is computed once per
    factor and iteration (Gillis and Glineur, Neural Computation 24, 2012). With ``sweeps=1`` an iteration
    equals one of scikit-learn's solver ``cd``. Zero rows and columns keep zero factors, so matrices of different
    sizes can be padded.

    Args:
        matrix: (N, D) or (..., N, D) float >= 0; each matrix is factorised independently.
        rank: number of components, >= 1; may exceed N and D.
        init: coefficients (..., N, rank) and components (..., rank, D) >= 0 to start from; by default
            NNDSVDa (Boutsidis and Gallopoulos, Pattern Recognition 41, 2008).
        iterations: maximum number of iterations, >= 0.
        tolerance: stop when the projected gradient's l1 norm has fallen to this share of its first value
            in every matrix; 0 = do not stop early.
        sweeps: rounds over the rank in each half of an iteration, >= 1.
        seed: seeds the truncated SVD and the extra components where a matrix has fewer directions
            than `rank`.

    Returns:
        The factors, in the matrix's dtype (float32 for half precision and integers) and on its device.

    Raises:
        ValueError: for negative, NaN or infinite values, a matrix without rows or columns, or arguments
            out of range.
    """
    matrix = _checked(matrix, "matrix")
    if rank < 1 or sweeps < 1 or iterations < 0 or not tolerance >= 0:
        raise ValueError(
            f"rank and sweeps must be at least 1, iterations and tolerance at least 0, "
            f"got {rank}, {sweeps}, {iterations}, {tolerance}"
        )
    shape = matrix.shape[:-2]
    stacked = matrix.reshape(-1, *matrix.shape[-2:])
    coefficients, components = nndsvda(stacked, rank, seed) if init is None else _stacked_init(init, stacked, rank)
    # the factors are stored transposed, one component per row: the sweeps read and write whole rows
    left, right = coefficients.mT.contiguous(), components.contiguous()
    transposed = stacked.mT
    first: Tensor | None = None
    for iteration in range(iterations):
        projected_left = right @ transposed
        gram_left = right @ right.mT
        looking = tolerance > 0 and iteration % CHECK_EVERY == 0
        slope = _projected_gradient(left, gram_left, projected_left) if looking else None
        rounds = 1 if iteration < WARM_UP else sweeps
        sweep(left, gram_left, projected_left, rounds)
        projected_right = left @ stacked
        gram_right = left @ left.mT
        if slope is not None:
            slope += _projected_gradient(right, gram_right, projected_right)
            first = slope if first is None else first
            if bool((slope <= tolerance * first).all()):
                break
        sweep(right, gram_right, projected_right, rounds)
    return Factors(left.mT.reshape(*shape, -1, rank), right.reshape(*shape, rank, -1))


@torch.no_grad()
def nndsvda(matrices: Tensor, rank: int, seed: int = 0) -> Factors:
    """Return the non-negative double SVD of matrices (B, N, D) >= 0, with zeros replaced by the matrix means.

    Each singular pair contributes its non-negative or its non-positive parts, whichever have the larger norm.
    Components beyond the matrix's own directions are small random numbers, since equal ones would stay equal.
    """
    batch, n, d = matrices.shape
    draw = torch.Generator().manual_seed(seed)
    u, s, vt = _truncated_svd(matrices, min(rank, n, d), draw)
    halves = []
    for sign in (1, -1):
        a, b = (sign * u).clamp(min=0), (sign * vt).clamp(min=0)
        halves.append((a, b, a.norm(dim=1), b.norm(dim=2)))
    (a, b, a_size, b_size), (a2, b2, a2_size, b2_size) = halves
    flip = a2_size * b2_size > a_size * b_size  # a tie goes to the non-negative parts
    a, b = torch.where(flip[:, None], a2, a), torch.where(flip[..., None], b2, b)
    a_size, b_size = torch.where(flip, a2_size, a_size), torch.where(flip, b2_size, b_size)
    scale = (s * a_size * b_size).sqrt()
    a = a * _share(scale, a_size)[:, None]
    b = b * _share(scale, b_size)[..., None]
    mean = matrices.mean(dim=(1, 2), keepdim=True)
    a, b = torch.where(a > 0, a, mean), torch.where(b > 0, b, mean)
    weak = torch.ones(batch, rank, dtype=torch.bool, device=matrices.device)
    weak[:, : s.shape[1]] = s <= s[:, :1] * (max(n, d) * torch.finfo(s.dtype).eps)
    noise = torch.rand(rank, n + d, generator=draw).to(matrices)
    small = (mean / rank).sqrt()
    coefficients = torch.where(weak[:, None], small * noise[:, :n].mT, _widened(a, rank, 2))
    components = torch.where(weak[..., None], small * noise[:, n:], _widened(b, rank, 1))
    return Factors(coefficients, components)


def _truncated_svd(matrices: Tensor, rank: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B, N, rank), (B, rank) and (B, rank, D) of the largest singular values.

    Randomised subspace iteration: Halko, Martinsson and Tropp, SIAM Review 53 (2011), algorithm 4.4.
    """
    n, d = matrices.shape[1:]
    width = min(rank + OVERSAMPLING, n, d)
    basis = matrices @ torch.randn(d, width, generator=draw).to(matrices)
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(matrices.mT @ torch.linalg.qr(basis).Q).Q
        basis = matrices @ basis
    basis = torch.linalg.qr(basis).Q
    u, s, vt = torch.linalg.svd(basis.mT @ matrices, full_matrices=False)
    return basis @ u[..., :rank], s[:, :rank], vt[:, :rank]


def sweep(factor: Tensor, gram: Tensor, projected: Tensor, sweeps: int) -> None:
    """Set each row of `factor` (B, rank, N) in turn to its minimiser >= 0, in place, `sweeps` times.

    Args:
        factor: one factor.
        gram: (B, rank, rank) products of the other factor's components.
        projected: (B, rank, N) products of the other factor with the matrix.
        sweeps: number of rounds.
    """
    diagonal = gram.diagonal(dim1=1, dim2=2)[..., None]
    usable = diagonal > 0
    inverse = torch.where(usable, 1 / diagonal, 0)
    others = -gram * inverse
    # a row whose component is zero stays unchanged, and may revive that component later
    others.diagonal(dim1=1, dim2=2).copy_(~usable[..., 0])
    target = projected * inverse
    if len(factor) == 1:
        _sweep_one(factor[0], others[0], target[0], sweeps)
        return
    for _ in range(sweeps):
        for t in range(factor.shape[1]):
            row = factor[:, t : t + 1]
            torch.baddbmm(target[:, t : t + 1], others[:, t : t + 1], factor, out=row).clamp_(min=0)


def _sweep_one(factor: Tensor, others: Tensor, target: Tensor, sweeps: int) -> None:
    rows, weights, targets = factor.unbind(), others.unbind(), target.unbind()
    transposed = factor.mT
    for _ in range(sweeps):
        for row, weight, wanted in zip(rows, weights, targets, strict=True):
            row.copy_(torch.addmv(wanted, transposed, weight).clamp_(min=0))


def _projected_gradient(factor: Tensor, gram: Tensor, projected: Tensor) -> Tensor:
    """Return the l1 norm (B,) of the gradient without the parts that point out of the feasible set (>= 0)."""
    gradient = gram @ factor - projected
    return torch.where(factor > 0, gradient, gradient.clamp(max=0)).abs().sum(dim=(1, 2))


def _share(scale: Tensor, size: Tensor) -> Tensor:
    return torch.where(size > 0, scale / size, 0)


def _widened(factor: Tensor, rank: int, dim: int) -> Tensor:
    """Pad a factor with zeros to `rank` components along `dim`."""
    lacking = list(factor.shape)
    lacking[dim] = rank - lacking[dim]
    return torch.cat([factor, factor.new_zeros(lacking)], dim)


def _stacked_init(init: tuple[Tensor, Tensor], stacked: Tensor, rank: int) -> Factors:
    coefficients, components = (_checked(part, "init").to(stacked) for part in init)
    n, d = stacked.shape[1:]
    if coefficients.shape[-2:] != (n, rank) or components.shape[-2:] != (rank, d):
        raise ValueError(
            f"init must be (..., {n}, {rank}) and (..., {rank}, {d}), "
            f"got {tuple(coefficients.shape)} and {tuple(components.shape)}"
        )
    return Factors(
        coefficients.reshape(-1, n, rank).expand(len(stacked), -1, -1).clone(),
        components.reshape(-1, rank, d).expand(len(stacked), -1, -1).clone(),
    )


def _checked(values: Tensor, name: str) -> Tensor:
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    if values.ndim < 2 or 0 in values.shape[-2:]:
        raise ValueError(f"{name} must be (..., N, D) with rows and columns, got {tuple(values.shape)}")
    if not bool(values.isfinite().all()) or bool((values < 0).any()):
        raise ValueError(f"{name} must be finite and not negative")
    return values
