"""Non-negative factorisation against golden numbers and scikit-learn."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_interpretability import nmf
from pruningbench_interpretability.factorisation import nndsvda
from sklearn.decomposition import NMF

GOLDEN = np.load(Path(__file__).parent / "data" / "interpretability" / "concepts.npz")
X = torch.from_numpy(GOLDEN["nmf_X"]).double()
START = torch.from_numpy(GOLDEN["nmf_W0"]).double(), torch.from_numpy(GOLDEN["nmf_H0"]).double()


def error(matrix: torch.Tensor, factors: tuple[torch.Tensor, torch.Tensor]) -> float:
    return float((matrix.double() - factors[0].double() @ factors[1].double()).norm())


def mixture(n: int, d: int, parts: int, seed: int, noise: float = 0.3) -> torch.Tensor:
    """Sparse parts in sparse amounts, with noise, as activations are."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(1, 1, (n, parts)) * (rng.random((n, parts)) < 0.6)
    directions = rng.gamma(1, 1, (parts, d)) * (rng.random((parts, d)) < 0.4)
    return torch.from_numpy(np.maximum(amounts @ directions + noise * rng.normal(size=(n, d)), 0))


@pytest.mark.parametrize("case", range(3))
def test_an_iteration_is_one_of_scikit_learn(case):
    iterations, expected = int(GOLDEN["nmf_iterations"][case]), float(GOLDEN["nmf_errors"][case])
    factors = nmf(X, 10, init=START, iterations=iterations, tolerance=0, sweeps=1)
    assert error(X, factors) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_converged_error_is_scikit_learns(dtype):
    factors = nmf(X.to(dtype), 10, iterations=3000, tolerance=1e-6)
    assert factors.coefficients.dtype == factors.components.dtype == dtype
    assert error(X, factors) <= 1.01 * float(GOLDEN["nmf_converged"])
    smallest = torch.linalg.svdvals(X)[10:].norm()
    assert error(X, factors) >= float(smallest)


@pytest.mark.parametrize("seed", range(4))
def test_error_with_the_defaults_is_scikit_learns(seed):
    matrix = mixture(150, 40, 12, seed).float()
    peer = NMF(6, init="nndsvda")
    coefficients = torch.from_numpy(peer.fit_transform(matrix.numpy()))
    ours = error(matrix, nmf(matrix, 6))
    assert ours <= 1.001 * error(matrix, (coefficients, torch.from_numpy(peer.components_)))


def test_an_exact_factorisation_is_found():
    directions = torch.eye(5, 12).double() + torch.eye(5, 12).roll(6, 1)
    amounts = torch.rand(60, 5, generator=torch.Generator().manual_seed(0)).double()
    amounts[:10] = torch.eye(5).repeat(2, 1)  # rows that show one part alone make the factors unique
    found = nmf(amounts @ directions, 5, tolerance=1e-7, iterations=500)
    assert error(amounts @ directions, found) < 1e-3
    unit = torch.nn.functional.normalize(found.components, dim=1)
    match = unit @ torch.nn.functional.normalize(directions, dim=1).T
    torch.testing.assert_close(match.amax(1), torch.ones(5).double(), atol=2e-3, rtol=0)
    assert sorted(match.argmax(1).tolist()) == list(range(5))


def test_batches_are_factorised_one_by_one():
    matrices = torch.stack([mixture(30, 12, 4, seed) for seed in range(3)])
    start = torch.rand(3, 30, 4).double(), torch.rand(3, 4, 12).double()
    together = nmf(matrices, 4, init=start, iterations=25, tolerance=0)
    for i in range(3):
        alone = nmf(matrices[i], 4, init=(start[0][i], start[1][i]), iterations=25, tolerance=0)
        for part, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(part, whole[i])
    assert [tuple(part.shape) for part in nmf(matrices[:, None], 4)] == [(3, 1, 30, 4), (3, 1, 4, 12)]


def test_rows_and_columns_of_zeros_stay_zero_and_change_nothing():
    matrix = mixture(30, 12, 4, 0)
    start = torch.rand(30, 4).double(), torch.rand(4, 12).double()
    padded = torch.zeros(34, 15).double()
    padded[:30, :12] = matrix
    wide = torch.rand(34, 4).double(), torch.rand(4, 15).double()
    wide[0][:30], wide[1][:, :12] = start
    wide[0][30:], wide[1][:, 12:] = 0, 0
    plain, got = (nmf(m, 4, init=s, iterations=30, tolerance=0) for m, s in ((matrix, start), (padded, wide)))
    torch.testing.assert_close(got.coefficients[:30], plain.coefficients)
    torch.testing.assert_close(got.components[:, :12], plain.components)
    for factors in (got, nmf(padded, 4)):
        assert not factors.coefficients[30:].any()
        assert not factors.components[:, 12:].any()


@cases(25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 7), st.integers(1, 10), st.floats(0, 0.9))
def test_any_shape_gives_finite_factors_that_are_not_worse_than_none(seed, n, d, rank, zeros):
    draw = torch.Generator().manual_seed(seed % 2**31)
    matrix = torch.rand(n, d, generator=draw) * (torch.rand(n, d, generator=draw) >= zeros)
    coefficients, components = nmf(matrix, rank, seed=1, iterations=100)
    assert coefficients.shape == (n, rank)
    assert components.shape == (rank, d)
    for part in (coefficients, components):
        assert bool(part.isfinite().all())
        assert bool((part >= 0).all())
    assert error(matrix, (coefficients, components)) <= float(matrix.norm()) + 1e-5
    if rank >= min(n, d):
        assert error(matrix, (coefficients, components)) <= 0.1 * float(matrix.norm()) + 1e-5


@pytest.mark.parametrize("matrix", [torch.zeros(4, 3), torch.ones(5, 4), torch.ones(1, 6), torch.ones(6, 1)])
def test_degenerate_matrices(matrix):
    factors = nmf(matrix, 3)
    assert error(matrix, factors) < 1e-3


def test_more_iterations_are_never_worse():
    matrix = mixture(60, 20, 8, 3)
    errors = [error(matrix, nmf(matrix, 5, iterations=n, tolerance=0)) for n in range(12)]
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(errors))


def test_the_start_is_the_leading_singular_pair_and_repeats():
    matrix = mixture(40, 15, 6, 1)
    u, s, vt = torch.linalg.svd(matrix)
    coefficients, components = nndsvda(matrix[None], 3)
    torch.testing.assert_close(coefficients[0, :, 0], u[:, 0].abs() * s[0].sqrt())
    torch.testing.assert_close(components[0, 0], vt[0].abs() * s[0].sqrt())
    for one, other in zip(nmf(matrix, 9), nmf(matrix, 9), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("matrix", "rank", "more", "message"),
    [
        (-torch.ones(2, 2), 1, {}, "not negative"),
        (torch.full((2, 2), float("nan")), 1, {}, "finite"),
        (torch.ones(2, 0), 1, {}, "rows and columns"),
        (torch.ones(3), 1, {}, "rows and columns"),
        (torch.ones(2, 2), 0, {}, "rank"),
        (torch.ones(2, 2), 1, {"sweeps": 0}, "sweeps"),
        (torch.ones(2, 2), 1, {"tolerance": -1.0}, "tolerance"),
        (torch.ones(2, 2), 1, {"init": (torch.ones(2, 2), torch.ones(1, 2))}, "init must"),
    ],
)
def test_what_cannot_be_factorised_is_refused(matrix, rank, more, message):
    with pytest.raises(ValueError, match=message):
        nmf(matrix, rank, **more)
