"""Least squares with non-negative coefficients against SciPy, and by the conditions of a minimum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_interpretability import nnls
from scipy import optimize

GOLDEN = np.load(Path(__file__).parent / "data" / "interpretability" / "concepts.npz")


def solve(rows: np.ndarray, components: np.ndarray) -> np.ndarray:
    return nnls(torch.from_numpy(rows), torch.from_numpy(components)).numpy()


def scipy_solve(rows: np.ndarray, components: np.ndarray) -> np.ndarray:
    return np.stack([optimize.nnls(components.T, row)[0] for row in rows])


def unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def violation(rows: np.ndarray, components: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """How far each row is from the conditions of Karush, Kuhn and Tucker, rows and components of length one."""
    assert (coefficients >= 0).all()
    left = (rows - coefficients @ components) / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-300)
    gradient = left @ unit(components).T
    return np.where(coefficients > 0, np.abs(gradient), gradient.clip(0)).max(axis=1)


def check(rows: np.ndarray, components: np.ndarray) -> int:
    """Compare with SciPy in objective, and in value where that is unique; return the rows SciPy could solve.

    On dependent columns SciPy gives coefficients of 1e13 for some rows, which its own gradient refutes.
    """
    ours, theirs = solve(rows, components), scipy_solve(rows, components)
    assert violation(rows, components, ours).max() <= 1e-11
    solved = violation(rows, components, theirs) <= 1e-11
    scale = np.square(rows).sum(axis=1).clip(1e-300)
    errors, best = (np.square(rows - x @ components).sum(axis=1) / scale for x in (ours, theirs))
    np.testing.assert_allclose(errors[solved], best[solved], rtol=0, atol=1e-12)
    spectrum = np.linalg.svd(unit(components), compute_uv=False)
    if len(components) <= components.shape[1] and spectrum[-1] > 1e-6 * spectrum[0]:
        assert solved.all()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8 * np.abs(theirs).max(initial=0))
    return int(solved.sum())


def basis(kind: str, rank: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Components (rank, D) of a kind that is hard in its own way."""
    free = rng.normal(size=(rank, width))
    if kind == "activations":
        return rng.random((rank, width)) * (rng.random((rank, width)) < 0.4)
    if kind == "nearly parallel":
        return rng.normal(size=(1, width)) + 10.0 ** -rng.uniform(1, 7) * free
    if kind == "rank-deficient":
        inner = int(rng.integers(1, rank + 1))
        return rng.normal(size=(rank, inner)) @ rng.normal(size=(inner, width))
    if kind == "repeated":
        return free[rng.integers(rank, size=rank)]
    if kind == "more components than columns":
        return free[:, : max(rank // 2, 1)]
    return free


KINDS = ("any", "activations", "nearly parallel", "rank-deficient", "repeated", "more components than columns")


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_rows_equal_scipy(kind):
    rng, solved, total = np.random.default_rng(KINDS.index(kind)), 0, 0
    for case in range(84):
        rank = int(rng.integers(1, 26))
        components = basis(kind, rank, int(rng.integers(rank, 41)), rng)
        rows = rng.normal(size=(20, components.shape[1]))
        if case % 3 == 0:  # in the cone, where every component's gradient is zero, or near it
            amounts = rng.random((20, rank)) * (rng.random((20, rank)) < 0.5)
            rows = amounts @ components + 0.1 * (case % 2) * rows
        solved += check(rows, components)
        total += len(rows)
    assert 6 * total >= 10_000
    assert solved >= 0.99 * total


@cases(50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(6, 12))
@example(2758, 5, 7)
def test_any_rows_equal_scipy(seed, rank, d):
    rng = np.random.default_rng(seed)
    rows, components = rng.normal(size=(5, d)), rng.normal(size=(rank, d))
    assert check(rows, components) == 5


def test_the_case_that_coordinate_descent_missed():
    rng = np.random.default_rng(2758)
    rows, components = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    distances = [
        np.linalg.norm(rows - x @ components, axis=1) for x in (f(rows, components) for f in (solve, scipy_solve))
    ]
    np.testing.assert_allclose(*distances, rtol=1e-13)


@pytest.mark.parametrize("power", range(1, 8))
def test_two_nearly_parallel_components_are_told_apart(power):
    components = np.array([[1.0, 0.0, 0.0], [1.0, 10.0**-power, 0.0]])
    amounts = np.array([[2.0, 3.0], [0.0, 1.0], [1.0, 0.0]])
    rows = amounts @ components + np.array([0.0, 0.0, 5.0])
    np.testing.assert_allclose(solve(rows, components), amounts, rtol=0, atol=1e-14 * 10.0**power)


def test_degenerate_ties_are_solved():
    eye = np.eye(4)
    assert solve(np.array([[1.0, 1, 1, 1], [0, 0, 0, 0], [-1, -1, -1, -1], [1, 0, 0, -1]]), eye).tolist() == [
        [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0],
    ]  # fmt: skip
    # a row at right angles to a component: its coefficient is zero and so is its gradient
    components = np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])
    rows = np.array([[1.0, 0, 7], [1, 1, 0], [2, 1, 0], [0, 0, 1]])
    assert check(rows, components) == 4
    # opposite components: their sum is free, no sum of them fits better
    check(rows, np.array([[1.0, 2, 3], [-1, -2, -3], [0, 1, 0]]))


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1e30, 1e140])
def test_scale_changes_nothing(scale):
    rng = np.random.default_rng(0)
    rows, components = rng.normal(size=(20, 9)), rng.normal(size=(5, 9))
    expected = solve(rows, components)
    np.testing.assert_allclose(solve(scale * rows, components) / scale, expected, rtol=1e-9)
    np.testing.assert_allclose(solve(rows, scale * components) * scale, expected, rtol=1e-9)


def test_rows_do_not_depend_on_each_other():
    rng = np.random.default_rng(1)
    rows, components = rng.normal(size=(300, 30)), rng.normal(size=(12, 30))
    np.testing.assert_allclose(
        solve(rows, components), np.concatenate([solve(row[None], components) for row in rows]), atol=1e-13
    )


def test_many_rows_are_solved_in_pieces(monkeypatch):
    from pruningbench_interpretability import nonnegative

    rng = np.random.default_rng(2)
    rows, components = rng.normal(size=(100, 8)), rng.normal(size=(5, 8))
    whole = solve(rows, components)
    monkeypatch.setattr(nonnegative, "ENTRIES", 200)
    np.testing.assert_allclose(solve(rows, components), whole, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_coefficients_have_the_rows_dtype(dtype):
    rows, components = torch.rand(6, 5).to(dtype), torch.rand(3, 5).to(dtype)
    got = nnls(rows, components)
    assert got.dtype == dtype
    torch.testing.assert_close(got, nnls(rows.double(), components.double()).to(dtype))


def test_golden_coefficients():
    rows, dictionary = (GOLDEN[name].astype(np.float64) for name in ("nnls_rows", "nnls_dictionary"))
    np.testing.assert_allclose(solve(rows, dictionary), GOLDEN["nnls_coefficients"], atol=1e-6)


def test_a_zero_component_has_zero_coefficients_and_batches_broadcast():
    components = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    rows = torch.tensor([[[2.0, 3.0]], [[-1.0, 3.0]]])
    assert nnls(rows, components).tolist() == [[[2.0, 0.0]], [[0.0, 0.0]]]
    several = torch.stack([components, components.flip(0)])
    assert nnls(rows, several).tolist() == [[[2.0, 0.0]], [[0.0, 0.0]]]
    assert nnls(rows[0], several).tolist() == [[[2.0, 0.0]], [[0.0, 2.0]]]


@pytest.mark.parametrize(("n", "rank", "d"), [(0, 3, 4), (5, 0, 4), (5, 3, 0), (0, 0, 0)])
def test_empty_shapes(n, rank, d):
    assert torch.equal(nnls(torch.ones(n, d), torch.ones(rank, d)), torch.zeros(n, rank))
    assert nnls(torch.ones(0, n, d), torch.ones(rank, d)).shape == (0, n, rank)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_what_has_no_length_is_refused(value):
    good, bad = torch.ones(2, 2).double(), torch.tensor([[1.0, value], [1.0, 1.0]]).double()
    with pytest.raises(ValueError, match="matrix must be finite"):
        nnls(bad, good)
    with pytest.raises(ValueError, match="components must be finite"):
        nnls(good, bad)
