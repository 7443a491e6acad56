"""Sobol total indices: the share of a function's variance that involves each input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

Sampler = Literal["halton", "sobol"]


@torch.no_grad()
def sobol_total(
    function: Callable[[Tensor], Tensor],
    dimension: int,
    *,
    designs: int = 32,
    sampler: Sampler = "halton",
    scramble: bool = True,
    seed: int = 0,
    batch_size: int = 1024,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Return the total Sobol indices of a function of independent inputs that are uniform on [0, 1].

    The index of an input is the mean share of the variance that remains when all other inputs are fixed: the
    input's own effect and all its interactions. Indices sum to 1 for an additive function and to more than 1
    otherwise. See `replicated_design` and `jansen_total`.

    Args:
        function: (B, dimension) -> (B,) values, or (B, M) values of M functions at once.
        dimension: number of inputs, >= 1.
        designs: number of points of the base design, >= 2; ``designs * (dimension + 1)`` values are computed.
        sampler: see `replicated_design`.
        scramble: see `replicated_design`.
        seed: see `replicated_design`.
        batch_size: maximum number of points passed to `function` at once.
        device: of those points.
        dtype: of those points.

    Returns:
        (dimension,) or (M, dimension) float64, >= 0; NaN where the function is constant or not finite.
    """
    points = replicated_design(dimension, designs, sampler=sampler, scramble=scramble, seed=seed)
    values = torch.cat([function(part) for part in torch.split(points.to(device, dtype), batch_size)])
    return jansen_total(values.movedim(0, -1), designs)


def replicated_design(
    dimension: int, designs: int, *, sampler: Sampler = "halton", scramble: bool = True, seed: int = 0
) -> Tensor:
    """Return the points that Jansen's estimator needs.

    A low-discrepancy sequence in twice the dimension gives two independent sets of points, A and B. C_i is
    A with its i-th column taken from B.

    Args:
        dimension: number of inputs d, >= 1.
        designs: number N of points of the sequence, >= 2.
        sampler: ``halton`` or ``sobol``.
        scramble: randomise the sequence (Owen's permutations for Halton, a linear matrix scramble and
            shift for Sobol). Without it, short sequences do not fill the cube: the first 32 points
            of Halton's sequence in base 71 stay below 0.44.
        seed: seed of the scramble.

    Returns:
        (N * (d + 1), d) float64 in [0, 1): A, C_1, ..., C_d.

    Raises:
        ValueError: for numbers out of range.
    """
    if dimension < 1 or designs < 2:
        raise ValueError(f"dimension must be at least 1 and designs at least 2, got {dimension} and {designs}")
    random = np.random.default_rng(seed)
    if sampler == "halton":
        both = qmc.Halton(2 * dimension, scramble=scramble, seed=random).random(designs)
    else:
        sequence = qmc.Sobol(2 * dimension, scramble=scramble, seed=random)
        both = sequence.random_base2((designs - 1).bit_length())[:designs]
    a, b = torch.from_numpy(both).chunk(2, dim=1)
    points = a.expand(dimension + 1, -1, -1).clone()
    for i in range(dimension):
        points[i + 1, :, i] = b[:, i]
    return points.reshape(-1, dimension)


def jansen_total(values: Tensor, designs: int) -> Tensor:
    """Return Jansen's estimate of the total indices: sum (f(A) - f(C_i))^2 / (2 N var f(A)).

    Source: Jansen, Computer Physics Communications 117 (1999); var has N - 1 degrees of freedom.

    Args:
        values: (..., N * (d + 1)) values of a function at the points of `replicated_design`, in the same order.
        designs: number N of points of the base design.

    Returns:
        (..., d) float64; NaN where f(A) is constant up to its dtype's precision, or a value is not finite.
    """
    precision = torch.finfo(values.dtype).eps if values.is_floating_point() else 0.0
    exact = values.double().view(*values.shape[:-1], -1, designs)
    base, changed = exact[..., :1, :], exact[..., 1:, :]
    variance = base.var(dim=-1)
    constant = variance.sqrt() <= 4 * precision * base.abs().amax(dim=-1)
    total = (base - changed).square().mean(dim=-1) / (2 * variance)
    return torch.where(constant | ~total.isfinite(), torch.nan, total)
