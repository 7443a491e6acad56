"""Exponential natural evolution strategies (xNES): minimise a function of a few hundred numbers from its values alone.

Candidates are drawn from a normal distribution. After each generation its mean and covariance follow the natural
gradient of the expected utility, where the utility of a candidate depends on its rank only; the covariance moves
through matrix exponentials, so it stays positive definite.

Source: Glasmachers, Schaul, Yi, Wierstra, Schmidhuber, Exponential natural evolution strategies (GECCO 2010);
settings: Wierstra et al., Natural evolution strategies (JMLR 2014), table 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Normal:
    """A normal distribution of candidates: ``x = mean + factor s`` with s standard normal.

    Attributes:
        mean: (d,) float64.
        factor: (d, d) float64, invertible; the covariance is ``factor factor^T``.
    """

    mean: Tensor
    factor: Tensor


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        best: (d,) float64, the candidate of the lowest value; of equal ones the first.
        value: its value.
        values: the values of all candidates, in the order of evaluation; the first is that of the start.
    """

    best: Tensor
    value: float
    values: tuple[float, ...]


def generation_size(dimensions: int) -> int:
    """Return the number of candidates of a generation, ``4 + floor(3 ln d)``."""
    return 4 + math.floor(3 * math.log(dimensions))


def utilities(values: Tensor) -> Tensor:
    """Return the utilities of candidates from their values, (n,) float64; they sum to 0, the lowest value has the most.

    The candidate of rank k = 1, 2, ... has ``max(0, ln(n / 2 + 1) - ln k)``, divided by the sum, less 1 / n. Equal
    values are ranked in their order.
    """
    size = len(values)
    ranks = values.argsort(stable=True).argsort() + 1
    raw = (math.log(size / 2 + 1) - ranks.double().log()).clamp(min=0)
    return raw / raw.sum() - 1 / size


def step(normal: Normal, draws: Tensor, values: Tensor) -> Normal:
    """Return the distribution after one generation.

    The mean moves by the full natural gradient; size and shape of the covariance by ``(9 + 3 ln d) / (5 d sqrt(d))``
    of theirs, which for the same rate are one exponential.

    Args:
        normal: the distribution of the candidates.
        draws: (n, d) float64, their standard normal draws s.
        values: (n,) their values, lower = better.
    """
    dimensions = len(normal.mean)
    rate = (9 + 3 * math.log(dimensions)) / (5 * dimensions * math.sqrt(dimensions))
    utility = utilities(values)
    along = utility @ draws
    spread = (draws.T * utility) @ draws - utility.sum() * torch.eye(dimensions, dtype=draws.dtype)
    mean = normal.mean + normal.factor @ along
    return Normal(mean, normal.factor @ torch.linalg.matrix_exp(rate / 2 * spread))


def minimise(function: Callable[[Tensor], float], start: Tensor, evaluations: int, generator: Generator) -> Found:
    """Search from a start with standard deviation 1 in all directions.

    The start is evaluated first, in addition, so nothing worse is returned. A last generation that the evaluations do
    not complete is evaluated, but moves nothing.

    Args:
        function: maps (d,) float64 to a value, lower = better.
        start: (d,) float64 on the CPU, d >= 2.
        evaluations: number of candidates to draw, >= 0.
        generator: what all draws come from, on the CPU.
    """
    normal = Normal(start, torch.eye(len(start), dtype=start.dtype))
    best, values = start, [function(start)]
    size = generation_size(len(start))
    while len(values) <= evaluations:
        count = min(size, evaluations + 1 - len(values))
        draws = torch.randn((count, len(start)), dtype=start.dtype, generator=generator)
        candidates = normal.mean + draws @ normal.factor.T
        found: list[float] = []
        for candidate in candidates:
            value = function(candidate)
            if value < min(values + found):
                best = candidate.clone()
            found.append(value)
        values += found
        if count == size:
            normal = step(normal, draws, torch.tensor(found, dtype=start.dtype))
    return Found(best, min(values), tuple(values))
