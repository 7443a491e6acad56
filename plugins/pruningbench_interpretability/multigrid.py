"""Weighted averages of eight neighbours on a grid with holes: the linear systems of ROAD, for a batch at once.

The solver is matrix-free conjugate gradients with one multigrid V-cycle as preconditioner. Coarse operators are
Galerkin products of bilinear interpolation, so holes of any shape are coarsened exactly. The number of
iterations hardly depends on the size or shape of the holes (4 to 9 for an error below 2e-5), whereas a Jacobi
preconditioner needs hundreds for one large hole.

Source: Briggs, Henson and McCormick, A Multigrid Tutorial (2000), chapters 3 and 10; Tatebe, The Multigrid
Preconditioned Conjugate Gradient Method (1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

DAMPING = 0.9
"""Damping of the Jacobi sweeps; one sweep reduces high frequencies by a factor of about 3 on both kinds of stencil."""
COARSEST, SWEEPS = 2, 6
"""Side of the coarsest grid, and the number of Jacobi sweeps on it."""


class _Framed:
    """Provides a buffer that holds values inside a frame of zeros, overwritten at each call."""

    _memory: Tensor | None = None
    _sums: tuple[Tensor, ...] = ()

    def framed(self, values: Tensor) -> Tensor:
        """Return (B, C, H + 2, W + 2) with the (B, C, H, W) values in its centre; the next call overwrites it."""
        height, width = values.shape[-2:]
        if self._memory is None or self._memory.shape[:2] != values.shape[:2] or self._memory.dtype != values.dtype:
            self._memory = values.new_zeros(*values.shape[:2], height + 2, width + 2)
        self._memory[..., 1:-1, 1:-1] = values
        return self._memory

    def box(self, values: Tensor) -> Tensor:
        """Convolve (B, C, H, W) values with [1 2 1]' [1 2 1], zeros outside; the next call overwrites the result."""
        framed = self.framed(values)
        if not self._sums or self._sums[-1].shape != values.shape or self._sums[-1].dtype != values.dtype:
            height, width = values.shape[-2:]
            sizes = (height + 1, width + 2), (height, width + 2), (height, width + 1), (height, width)
            self._sums = tuple(values.new_empty(*values.shape[:2], *size) for size in sizes)
        one, two, three, four = self._sums
        torch.add(framed[..., :-1, :], framed[..., 1:, :], out=one)
        torch.add(one[..., :-1, :], one[..., 1:, :], out=two)
        torch.add(two[..., :-1], two[..., 1:], out=three)
        return torch.add(three[..., :-1], three[..., 1:], out=four)


class Holes(_Framed):
    """The finest operator: s_i u_i minus the weighted neighbours, on the missing pixels of every image.

    Attributes:
        missing: (B, 1, H, W) float, 1 where a pixel is missing and 0 where it is known.
        total: (1, 1, H, W) float: s, the sum of the weights of the neighbours inside the image.
        smoothing: (B, 1, H, W) damped inverse diagonal, 0 on known pixels.
    """

    def __init__(self, missing: Tensor) -> None:
        self.missing = missing
        self.total = weighted_neighbours(torch.ones_like(missing[:1]))
        self.smoothing = missing * (DAMPING / self.total).nan_to_num(posinf=0.0)  # one pixel has no neighbours
        self._diagonal, self._twelfth = -(self.total + 1 / 3) * missing, missing / 12

    def residual(self, right: Tensor, values: Tensor) -> Tensor:
        """Return `right` minus the operator applied to (B, C, H, W) values, which are 0 on known pixels."""
        return torch.addcmul(right, values, self._diagonal).addcmul_(self.box(values), self._twelfth)

    def apply(self, values: Tensor) -> Tensor:
        """Apply the operator to (B, C, H, W) values, which are 0 on known pixels."""
        return torch.mul(values, self._diagonal).addcmul_(self.box(values), self._twelfth).neg_()

    def coefficients(self) -> Tensor:
        """Return the operator as a stencil, see `Stencil`."""
        height, width = self.missing.shape[-2:]
        around = pad(self.missing, (1, 1, 1, 1))
        rows = []
        for row, column in ((r, c) for r in range(3) for c in range(3)):
            weight = 0.0 if row == column == 1 else 1 / 6 if 1 in (row, column) else 1 / 12
            rows.append(around[..., row : row + height, column : column + width] * self.missing * -weight)
        rows[4] = self.total * self.missing
        return torch.stack(rows).view(3, 3, *self.missing.shape)


class Stencil(_Framed):
    """A coarse operator: nine coefficients at every point.

    Attributes:
        coefficients: (3, 3, B, 1, h, w) float, for the neighbours above left, above, ... below right.
        smoothing: (B, 1, h, w) damped inverse diagonal, 0 at points that touch no missing pixel. Where a
            row is not diagonally dominant, half its absolute sum replaces the diagonal, which keeps the
            sweeps convergent.
    """

    missing = None

    def __init__(self, coefficients: Tensor) -> None:
        self._coefficients = coefficients
        half_sum = coefficients.abs().sum(dim=(0, 1)) / 2
        diagonal = torch.maximum(coefficients[1, 1], half_sum)
        self.smoothing = torch.where(diagonal > 0, DAMPING / diagonal, 0.0)

    def residual(self, right: Tensor, values: Tensor) -> Tensor:
        """Return `right` minus the operator applied to (B, C, h, w) values."""
        height, width = values.shape[-2:]
        around = self.framed(values)
        result = right.clone()
        for row in range(3):
            for column in range(3):
                neighbour = around[..., row : row + height, column : column + width]
                result.addcmul_(self._coefficients[row, column], neighbour, value=-1)
        return result

    def coefficients(self) -> Tensor:
        """Return the coefficients."""
        return self._coefficients


def weighted_neighbours(values: Tensor) -> Tensor:
    """Return the weighted sum over the 8 neighbours inside (..., H, W) images: edges weigh 1/6, corners 1/12."""
    sums = pad(values, (1, 1, 1, 1))
    sums = sums[..., :-1, :] + sums[..., 1:, :]
    sums = sums[..., :-1, :] + sums[..., 1:, :]
    sums = sums[..., :-1] + sums[..., 1:]
    return (sums[..., :-1] + sums[..., 1:]).div_(12).sub_(values, alpha=1 / 3)


def hierarchy(missing: Tensor) -> list[Holes | Stencil]:
    """Return the operators from the finest to the coarsest grid for (B, 1, H, W) float masks of missing pixels."""
    operators: list[Holes | Stencil] = [Holes(missing)]
    coefficients = operators[0].coefficients()
    while max(coefficients.shape[-2:]) > COARSEST:
        coefficients = _coarsen_columns(coefficients)
        coefficients = _coarsen_columns(coefficients.transpose(0, 1).transpose(-2, -1))
        coefficients = coefficients.transpose(0, 1).transpose(-2, -1).contiguous()
        operators.append(Stencil(coefficients))
    return operators


def solve(operators: list[Holes | Stencil], right: Tensor, *, tolerance: Tensor, iterations: int = 100) -> Tensor:
    """Solve the finest operator's equations by preconditioned conjugate gradients.

    Args:
        operators: the result of `hierarchy`.
        right: (B, C, H, W) float right-hand sides, 0 on known pixels.
        tolerance: (B, C, 1, 1) largest error allowed in any pixel. One V-cycle on the residual estimates
            the error.
        iterations: maximum number of iterations.

    Returns:
        (B, C, H, W) solutions, 0 on known pixels; NaN for right-hand sides that are not finite.
    """
    finest = operators[0]
    if not isinstance(finest, Holes):
        raise TypeError("the finest operator must be a Holes operator")
    solution, residual = torch.zeros_like(right), right.clone()
    direction, before = torch.zeros_like(right), torch.ones_like(tolerance)
    for _ in range(iterations):
        estimate = _v_cycle(operators, residual)
        if not bool((estimate.abs().amax(dim=(2, 3), keepdim=True) > tolerance).any()):
            break
        product = _dot(residual, estimate)
        direction = estimate.addcmul_(direction, _quotient(product, before))
        before = product
        image = finest.apply(direction)
        step = _quotient(product, _dot(direction, image))
        solution.addcmul_(direction, step)
        residual.addcmul_(image, step, value=-1)
    return solution


def _v_cycle(operators: list[Holes | Stencil], right: Tensor) -> Tensor:
    """Apply an approximate inverse of the operator to `right`; linear and symmetric."""
    operator, coarser = operators[0], operators[1:]
    values = right * operator.smoothing
    if not coarser:
        for _ in range(SWEEPS - 1):
            values.addcmul_(operator.residual(right, values), operator.smoothing)
        return values
    rise = _prolong(_v_cycle(coarser, _restrict(operator.residual(right, values))), *right.shape[-2:])
    values = values.add_(rise) if operator.missing is None else values.addcmul_(rise, operator.missing)
    return values.addcmul_(operator.residual(right, values), operator.smoothing)


def _coarsen_columns(fine: Tensor) -> Tensor:
    """Return the Galerkin product of stencils (3, 3, ..., W) with linear interpolation along the last axis.

    l, c and r are the coefficients of a point for its left, own and right column. Interpolation follows
    `_stretch`: even point 2I is coarse point I, and an odd point takes half of each neighbour.
    """
    size = fine.shape[-1]
    if size == 1:
        return fine
    left, centre, right = fine.unbind(dim=1)
    a, b = _halves(size, fine)
    # action of odd points on the coarse points to their left and right
    on_left = torch.addcmul(left[..., 1::2], centre[..., 1::2], a)
    on_right = torch.addcmul(right[..., 1::2], centre[..., 1::2], b)
    coarse = fine[..., ::2].clone()
    count = on_left.shape[-1]  # coarse point I has an odd point to its right for I < count, to its left for I > 0
    inner = coarse.shape[-1] - 1
    coarse[:, 1] += left[..., ::2] / 2
    coarse[:, 0] /= 2
    coarse[:, 1, ..., :count] += (right[..., ::2])[..., :count] * a
    coarse[:, 2, ..., :count] *= b
    coarse[:, 1, ..., :count] += on_left * a
    coarse[:, 2, ..., :count] += on_right * a
    coarse[:, 0, ..., 1:] += (on_left * b)[..., :inner]
    coarse[:, 1, ..., 1:] += (on_right * b)[..., :inner]
    return coarse


def _halves(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return each odd point's weights for the coarse points on its left and right, (size // 2,) each."""
    a = like.new_full((size // 2,), 0.5)
    b = a.clone()
    if size % 2 == 0:  # the last one has no coarse point on its right
        a[-1], b[-1] = 1.0, 0.0
    return a, b


@dataclass(frozen=True)
class _Axis:
    """One axis of a grid: -2 rows, -1 columns."""

    dim: int

    def part(self, values: Tensor, start: int | None, stop: int | None, step: int = 1) -> Tensor:
        """Return values[start:stop:step] along the axis."""
        index = slice(start, stop, step)
        return values[..., index, :] if self.dim == -2 else values[..., index]


_ROWS, _COLUMNS = _Axis(-2), _Axis(-1)


def _prolong(values: Tensor, height: int, width: int) -> Tensor:
    """Interpolate (..., h, w) linearly to twice the size: coarse point i lies on fine point 2i."""
    return _stretch(_stretch(values, _ROWS, height), _COLUMNS, width)


def _restrict(values: Tensor) -> Tensor:
    """Apply the transpose of `_prolong`."""
    return _gather(_gather(values, _ROWS), _COLUMNS)


def _stretch(values: Tensor, axis: _Axis, size: int) -> Tensor:
    if size == 1:
        return values
    shape = list(values.shape)
    shape[axis.dim] = size
    result = values.new_empty(shape)
    axis.part(result, 0, None, 2).copy_(values)
    between = axis.part(result, 1, size - 1 if size % 2 == 0 else None, 2)
    torch.lerp(axis.part(values, 0, -1), axis.part(values, 1, None), 0.5, out=between)
    if size % 2 == 0:  # beyond the last coarse point
        axis.part(result, size - 1, None).copy_(axis.part(values, -1, None))
    return result


def _gather(values: Tensor, axis: _Axis) -> Tensor:
    size = values.shape[axis.dim]
    if size == 1:
        return values
    result = axis.part(values, 0, None, 2).clone()
    between = axis.part(values, 1, size - 1 if size % 2 == 0 else None, 2)
    axis.part(result, 0, -1).add_(between, alpha=0.5)
    axis.part(result, 1, None).add_(between, alpha=0.5)
    if size % 2 == 0:
        axis.part(result, -1, None).add_(axis.part(values, size - 1, None))
    return result


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """(B, C, H, W) twice -> (B, C, 1, 1), summed per image and channel."""
    return (first * second).sum(dim=(2, 3), keepdim=True)


def _quotient(upper: Tensor, lower: Tensor) -> Tensor:
    """Return upper / lower, or 0 where upper is 0, so that a solved system stays unchanged."""
    return torch.where(upper == 0, upper, upper / lower)
