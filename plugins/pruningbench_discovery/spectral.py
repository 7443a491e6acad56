"""The second eigenvector of a normalised cut, by Lanczos iterations on many graphs in parallel.

Shi and Malik, Normalized Cuts and Image Segmentation, PAMI 2000; Lanczos with full
reorthogonalisation: Golub and Van Loan, Matrix Computations (2013), section 10.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DENSE = 128
"""Largest number of nodes for which a dense decomposition is faster."""
_STEPS, _EVERY = 256, 8
"""Maximum number of Lanczos steps before the dense decomposition takes over; steps between convergence tests."""
_RESIDUAL = 1e-11
"""Norm of M v - theta v below which v counts as converged; eigenvalues of M lie in [-1, 1]."""


def second_eigenvectors(connected: Tensor, weak: float) -> Tensor:
    """Return the generalised eigenvector of (D - A) x = lambda D x for the second smallest lambda.

    A is 1 where `connected` and `weak` elsewhere, and D is the diagonal matrix of its row sums.
    With ``S = D^(-1/2)``, x = S v, where v is the eigenvector of S A S with the second largest eigenvalue; the first
    eigenvector is known to be ``D^(1/2) 1``. Since ``A = (1 - weak) B + weak``, products need only the matrix B of
    zeros and ones.

    If the second eigenvalue is multiple, as with several patches that resemble no other, the result is one
    vector of its eigenspace, always the same one.

    Args:
        connected: (B, N, N) bool, symmetric.
        weak: weight of pairs that are not connected, in (0, 1).

    Returns:
        (B, N) float64 of unit length, with unspecified sign.
    """
    strong = connected.double()
    nodes = connected.shape[1]
    ones = strong.new_ones(len(strong), nodes)
    scale = _product(strong, ones, weak).rsqrt()
    if nodes <= _DENSE:
        vector = _dense(strong, scale, weak)
    else:
        vector, converged = _lanczos(strong, scale, weak)
        if not bool(converged.all()):
            remaining = ~converged
            vector[remaining] = _dense(strong[remaining], scale[remaining], weak)
    unscaled = scale * vector
    length: Tensor = unscaled.norm(dim=1, keepdim=True)
    return unscaled / length


def _product(strong: Tensor, x: Tensor, weak: float) -> Tensor:
    """Return A x for (B, N) vectors."""
    return (1 - weak) * torch.bmm(strong, x[:, :, None])[:, :, 0] + weak * x.sum(dim=1, keepdim=True)


def _dense(strong: Tensor, scale: Tensor, weak: float) -> Tensor:
    affinity = (1 - weak) * strong + weak
    vectors: Tensor = torch.linalg.eigh(affinity * scale[:, :, None] * scale[:, None, :]).eigenvectors
    return vectors[:, :, -2 if strong.shape[1] > 1 else -1]


def _lanczos(strong: Tensor, scale: Tensor, weak: float) -> tuple[Tensor, Tensor]:
    """Return the second eigenvectors of S A S (B, N), and which of them have converged (B,) bool."""
    graphs, nodes = scale.shape
    steps = min(_STEPS, nodes - 1)
    basis = scale.new_zeros(graphs, steps + 1, nodes)  # the first vector is the first eigenvector: deflation
    basis[:, 0] = (1 / scale) / (1 / scale).norm(dim=1, keepdim=True)
    diagonal, below = scale.new_zeros(graphs, steps), scale.new_zeros(graphs, steps)
    vector, _ = _next(_start(nodes).to(scale).expand(graphs, -1), basis[:, :1])
    done_steps, residual, ritz = 0, torch.ones(graphs), torch.ones(graphs, 1, dtype=scale.dtype)
    for step in range(steps):
        basis[:, step + 1] = vector
        image = scale * _product(strong, scale * vector, weak)
        diagonal[:, step] = (image * vector).sum(dim=1)
        vector, below[:, step] = _next(image, basis[:, : step + 2])
        done_steps = step + 1
        if (
            done_steps % _EVERY == 0 or done_steps == steps
        ):  # small matrices: faster on a CPU, with a single wait for the device
            main, off = diagonal[:, :done_steps].cpu(), below[:, :done_steps].cpu()
            side = off[:, :-1]
            tridiagonal = torch.diag_embed(main) + torch.diag_embed(side, 1) + torch.diag_embed(side, -1)
            ritz = torch.linalg.eigh(tridiagonal).eigenvectors[:, :, -1]
            residual = off[:, -1] * ritz[:, -1].abs()
            if bool((residual <= _RESIDUAL).all()):
                break
    combined = torch.bmm(ritz.to(scale)[:, None], basis[:, 1 : done_steps + 1])[:, 0]
    return combined, (residual <= _RESIDUAL).to(scale.device)


def _start(nodes: int) -> Tensor:
    """Return the start vector for all graphs: unbiased, and always the same."""
    return torch.randn(nodes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _next(image: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of (B, N) `image` orthogonal to the basis (B, K, N), normalised, and its length.

    If nothing is left, an invariant subspace is found: the vector and its length are then zero.
    """
    size = image.norm(dim=1)
    for _ in range(2):  # the second pass corrects the rounding of the first
        image = image - torch.bmm(torch.bmm(basis, image[:, :, None]).mT, basis)[:, 0]
    length = image.norm(dim=1)
    length = torch.where(length > 1e-14 * size, length, 0.0)
    return torch.where(length[:, None] > 0, image / length[:, None], 0.0), length
