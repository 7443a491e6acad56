"""Block-diagonal curvature F = damping I + mean g g' of one parameter, in flat row-major blocks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from pruningbench.contract import PruningBenchError
from pruningbench_hessian.costs import STEP_ENTRIES

_NO_CURVATURE = 1e-30
"""Replaces relative damping where all gradients are zero: any positive number ranks such weights lowest."""


class BlockGram:
    """The Gram matrices of one parameter's per-sample gradients, block by block.

    A block holds `block_size` consecutive weights in flat order; the last block is padded with weights of zero
    gradient. With fewer samples than weights per block, the gradients themselves are kept, which takes less
    memory, and the inverse is computed through the samples x samples matrix.

    Args:
        weights: number of weights.
        block_size: weights per block, at least 1; at most `weights` are used.
        samples: number of gradients that will be added.
        damping: value added to the diagonal.
        relative: whether `damping` is a fraction of the parameter's mean squared gradient.
        dtype: of the gradients; all solves are in float64.
        device: of the gradients.
    """

    def __init__(
        self,
        weights: int,
        block_size: int,
        samples: int,
        *,
        damping: float,
        relative: bool,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.weights, self.samples = weights, samples
        self.size = min(block_size, weights)
        self.blocks = -(-weights // self.size)
        self.dual = samples < self.size
        self._damping, self._relative = damping, relative
        rows = samples if self.dual else self.size
        self._sums = torch.zeros(self.blocks, rows, self.size, dtype=dtype, device=device)
        self._added = 0
        self._mean_square: float | None = None

    def add(self, gradients: Tensor) -> None:
        """Add the gradients of some samples, (c, weights)."""
        rows = self.to_blocks(gradients).transpose(0, 1)
        if self.dual:
            self._sums[:, self._added : self._added + len(gradients)] = rows
        else:
            self._sums.baddbmm_(rows.transpose(1, 2), rows)
        self._added += len(gradients)
        self._mean_square = None

    def free(self) -> None:
        """Free the memory; these matrices cannot be used afterwards."""
        self._sums = self._sums.new_empty(0)

    def to_blocks(self, flat: Tensor) -> Tensor:
        """Reshape (..., weights) to (..., blocks, size), padding with zeros (False)."""
        padded = pad(flat, (0, self.blocks * self.size - self.weights))
        return padded.view(*flat.shape[:-1], self.blocks, self.size)

    def from_blocks(self, blocked: Tensor) -> Tensor:
        """Undo `to_blocks`."""
        return blocked.flatten(-2)[..., : self.weights]

    def damping(self) -> float:
        """Return the value added to the diagonal, > 0 if the `damping` argument is."""
        if not self._relative:
            return self._damping
        if self._mean_square is None:
            squares = (
                _double(self._sums[part]).square() if self.dual else _double(self._sums[part].diagonal(dim1=1, dim2=2))
                for part in self.steps()
            )
            self._mean_square = sum(float(part.sum()) for part in squares) / (self._added * self.weights)
        return self._damping * self._mean_square if self._mean_square > 0 else _NO_CURVATURE

    def steps(self) -> Iterator[slice]:
        """Yield slices of blocks whose matrices can be processed at a time."""
        step = max(1, STEP_ENTRIES // self.size**2)
        for start in range(0, self.blocks, step):
            yield slice(start, min(start + step, self.blocks))

    def matrices(self, part: slice) -> Tensor:
        """Return the damped matrices of some blocks, (b, size, size) float64."""
        sums = _double(self._sums[part])
        matrices = sums.transpose(1, 2) @ sums if self.dual else sums
        matrices = matrices / self._added
        matrices.diagonal(dim1=1, dim2=2).add_(self.damping())
        return matrices

    def inverses(self, part: slice) -> Tensor:
        """Return the inverses of `matrices`, (b, size, size) float64.

        Raises:
            PruningBenchError: if a matrix is not positive-definite.
        """
        inverses: Tensor = torch.cholesky_inverse(cholesky(self.matrices(part)))
        return inverses

    def inverse_diagonal(self) -> Tensor:
        """Return the diagonal of the inverse, (weights,) float64 on the CPU or the gradients' device.

        Raises:
            PruningBenchError: if a matrix is not positive-definite.
        """
        part = self._dual_diagonal if self.dual else self._direct_diagonal
        return self.from_blocks(torch.cat([part(step) for step in self.steps()]))

    def _direct_diagonal(self, part: slice) -> Tensor:
        return self.inverses(part).diagonal(dim1=1, dim2=2).clone()

    def _dual_diagonal(self, part: slice) -> Tensor:
        """Compute it by Woodbury: F^-1 = (I - G' (m damping I + G G')^-1 G) / damping, G the (m, size) gradients."""
        rows, damping = _double(self._sums[part]), self.damping()
        if damping <= 0:
            raise PruningBenchError("the curvature is not positive-definite: give a damping above 0")
        inner = rows @ rows.transpose(1, 2)
        inner.diagonal(dim1=1, dim2=2).add_(self._added * damping)
        half = torch.linalg.solve_triangular(cholesky(inner), rows, upper=False)
        diagonal: Tensor = (1 - half.square().sum(1)) / damping
        return diagonal


def cholesky(matrices: Tensor) -> Tensor:
    """Return lower Cholesky factors of (b, n, n) matrices.

    Raises:
        PruningBenchError: if a matrix is not positive-definite.
    """
    factors: Tensor
    factors, info = torch.linalg.cholesky_ex(matrices)
    if bool(info.any()) or not bool(torch.isfinite(factors.diagonal(dim1=-2, dim2=-1)).all()):
        raise PruningBenchError("the curvature is not positive-definite: raise the damping")
    return factors


def _double(values: Tensor) -> Tensor:
    """Return float64 values, on the CPU if the device has no float64 (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()
