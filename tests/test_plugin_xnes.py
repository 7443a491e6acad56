"""The evolution strategy of the pruner snapvit: its formulas, and what it finds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from pruningbench_structured.xnes import Normal, generation_size, minimise, step, utilities
from torch import Tensor

from pruningbench.base.randomness import generator_for

STORED = np.load(Path(__file__).parent / "data" / "pruners" / "snapvit.npz")


def test_generations_follow_pypop7() -> None:
    normal = Normal(torch.linspace(1, 2, 6, dtype=torch.float64), torch.eye(6, dtype=torch.float64))
    for number, (draws, values) in enumerate(zip(STORED["xnes_draws"], STORED["xnes_values"], strict=True)):
        normal = step(normal, torch.from_numpy(draws), torch.from_numpy(values))
        np.testing.assert_allclose(normal.mean, STORED["xnes_means"][number], rtol=1e-12)
        np.testing.assert_allclose(normal.factor, STORED["xnes_factors"][number], rtol=1e-11, atol=1e-14)


def test_one_step_is_the_published_update() -> None:
    """Wierstra et al. (2014), algorithm 5, with step size and shape apart."""
    rng = np.random.default_rng(0)
    d, n = 4, 8
    shape = rng.standard_normal((d, d)) + 3 * np.eye(d)
    sigma = abs(np.linalg.det(shape)) ** (1 / d)
    b, mean, s, values = shape / sigma, rng.standard_normal(d), rng.standard_normal((n, d)), rng.standard_normal(n)
    raw = [max(0, math.log(n / 2 + 1) - math.log(k)) for k in range(1, n + 1)]
    best_first = np.argsort(values)
    u = {int(i): raw[rank] / sum(raw) - 1 / n for rank, i in enumerate(best_first)}
    rate = (9 + 3 * math.log(d)) / (5 * d * math.sqrt(d))
    along = sum(u[i] * s[i] for i in range(n))
    m = sum(u[i] * (np.outer(s[i], s[i]) - np.eye(d)) for i in range(n))
    size = np.trace(m) / d
    new_mean = mean + sigma * b @ along
    new_shape = sigma * math.exp(rate / 2 * size) * b @ scipy.linalg.expm(rate / 2 * (m - size * np.eye(d)))
    found = step(Normal(torch.from_numpy(mean), torch.from_numpy(shape)), torch.from_numpy(s), torch.from_numpy(values))
    np.testing.assert_allclose(found.mean, new_mean, rtol=1e-12)
    np.testing.assert_allclose(found.factor, new_shape, rtol=1e-11)


def test_utilities_depend_on_ranks_only() -> None:
    values = torch.tensor([3.0, -1.0, 8.0, 0.5, 7.0])
    found = utilities(values)
    assert float(found.sum()) == pytest.approx(0, abs=1e-15)
    assert torch.equal(found, utilities(values.exp()))
    assert found.argmax() == 1
    assert float(found[1] - found[3]) == pytest.approx(math.log(2) / (3 * math.log(3.5) - math.log(6)))
    assert torch.equal(found[[2, 4]], torch.full((2,), -0.2, dtype=torch.float64))


@pytest.mark.parametrize("d", [2, 6])
def test_it_finds_the_minimum_of_a_quadratic(d: int) -> None:
    scale = torch.logspace(0, 2, d, dtype=torch.float64)
    target = torch.linspace(-1, 2, d, dtype=torch.float64)

    def quadratic(x: Tensor) -> float:
        return float((scale * (x - target).square()).sum())

    found = minimise(quadratic, torch.zeros(d, dtype=torch.float64), 4000, generator_for("quadratic"))
    assert found.value < 1e-9
    assert quadratic(found.best) == found.value == min(found.values)
    assert len(found.values) == 4001


def test_the_start_is_kept_unless_something_is_better() -> None:
    start = torch.full((5,), 0.25, dtype=torch.float64)
    for evaluations in (0, 20):
        found = minimise(lambda x: float((x - 0.25).abs().sum()), start, evaluations, generator_for("start"))
        assert torch.equal(found.best, start)
        assert found.value == found.values[0] == 0
        assert len(found.values) == evaluations + 1


def test_the_search_is_translated_with_its_start() -> None:
    shift = torch.tensor([4.0, -2.0, 8.0], dtype=torch.float64)

    def search(offset: Tensor) -> tuple[float, ...]:
        return minimise(lambda x: float((x - offset).square().sum()), 1 + offset, 60, generator_for("shift")).values

    assert generation_size(3) == 7
    np.testing.assert_allclose(search(torch.zeros(3, dtype=torch.float64)), search(shift), rtol=1e-9)
