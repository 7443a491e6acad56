"""Sobol total indices: closed forms, golden numbers, designs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_interpretability import jansen_total, replicated_design, sobol_total
from scipy.stats import qmc
from torch import Tensor

GOLDEN = np.load(Path(__file__).parent / "data" / "interpretability" / "concepts.npz")
A = torch.from_numpy(GOLDEN["g_function_a"])
COEFFICIENTS = torch.from_numpy(GOLDEN["additive_coefficients"])


def g_function(x: Tensor) -> Tensor:
    return (((4 * x.float().double() - 2).abs() + A) / (1 + A)).prod(dim=1)


def additive(x: Tensor) -> Tensor:
    return x.float().double() @ COEFFICIENTS


def exact_g() -> Tensor:
    own = 1 / (3 * (1 + A).square())
    return (
        own * torch.stack([(1 + own[torch.arange(len(A)) != i]).prod() for i in range(len(A))]) / ((1 + own).prod() - 1)
    )


@pytest.mark.parametrize(
    ("name", "function", "designs"),
    [("additive", additive, 1024), ("g_function", g_function, 1024), ("g_function_small", g_function, 32)],
)
def test_jansen_equals_the_golden_numbers(name, function, designs):
    expected = GOLDEN[f"{name}_jansen"]
    got = sobol_total(function, len(expected), designs=designs, sampler="sobol", scramble=False)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-7)


def test_design_and_estimator_equal_the_golden_ones():
    without_b = np.r_[0:32, 64:320]
    design = replicated_design(8, 32, sampler="sobol", scramble=False)
    np.testing.assert_array_equal(design.numpy(), GOLDEN["sobol_design"][without_b])
    got = jansen_total(torch.from_numpy(GOLDEN["sobol_outputs"][without_b]), 32)
    np.testing.assert_allclose(got.numpy(), GOLDEN["g_function_small_jansen"], atol=1e-7)


@pytest.mark.parametrize("sampler", ["halton", "sobol"])
def test_closed_forms_are_met(sampler):
    variance = COEFFICIENTS.square()
    got = sobol_total(additive, 6, designs=4096, sampler=sampler)
    torch.testing.assert_close(got, variance / variance.sum(), atol=3e-3, rtol=0)
    torch.testing.assert_close(sobol_total(g_function, 8, designs=8192, sampler=sampler), exact_g(), atol=4e-3, rtol=0)


def test_an_interaction_counts_for_both_inputs():
    # centred product: no effect of its own, all variance in the interaction, so both totals are 1
    got = sobol_total(lambda x: (x[:, 0] - 0.5) * (x[:, 1] - 0.5), 3, designs=8192)
    torch.testing.assert_close(got, torch.tensor([1.0, 1.0, 0.0]).double(), atol=2e-2, rtol=0)


def test_several_functions_in_any_batches():
    sizes = []

    def both(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return torch.stack([g_function(x), torch.ones(len(x)).double()], dim=1)

    got = sobol_total(both, 8, designs=20, batch_size=7)
    assert max(sizes) == 7
    assert sum(sizes) == 180
    torch.testing.assert_close(got[0], sobol_total(g_function, 8, designs=20, batch_size=1000))
    assert got[1].isnan().all()


@cases(30)
@given(st.integers(1, 6), st.integers(2, 40), st.sampled_from(["halton", "sobol"]), st.booleans(), st.integers(0, 99))
def test_designs_are_replicated(dimension, designs, sampler, scramble, seed):
    points = replicated_design(dimension, designs, sampler=sampler, scramble=scramble, seed=seed)
    assert points.shape == (designs * (dimension + 1), dimension)
    assert bool(((points >= 0) & (points < 1)).all())
    base, *changed = points.view(dimension + 1, designs, dimension)
    for i, part in enumerate(changed):
        others = torch.arange(dimension) != i
        assert torch.equal(part[:, others], base[:, others])
    again = replicated_design(dimension, designs, sampler=sampler, scramble=scramble, seed=seed)
    assert torch.equal(points, again)
    if not scramble and sampler == "halton":
        sequence = qmc.Halton(2 * dimension, scramble=False).random(designs)
        np.testing.assert_array_equal(base.numpy(), sequence[:, :dimension])
        np.testing.assert_array_equal(changed[0][:, 0].numpy(), sequence[:, dimension])


def test_scrambles_differ_by_seed():
    assert not torch.equal(replicated_design(3, 8, seed=0), replicated_design(3, 8, seed=1))


def test_what_does_not_vary_is_undefined():
    assert sobol_total(lambda x: torch.full((len(x),), 3.0), 4).isnan().all()
    rounding = torch.full((12,), 3.0)
    rounding[::2] = torch.nextafter(rounding[::2], torch.tensor(4.0))
    assert jansen_total(rounding, 4).isnan().all()
    assert jansen_total(rounding.double() + torch.arange(12), 4).isfinite().all()
    broken = torch.arange(12.0)
    broken[7] = float("nan")
    assert jansen_total(broken, 4).isnan().tolist() == [True, False]


@pytest.mark.parametrize(("dimension", "designs"), [(0, 4), (3, 1)])
def test_numbers_out_of_range_are_refused(dimension, designs):
    with pytest.raises(ValueError, match="at least"):
        replicated_design(dimension, designs)
