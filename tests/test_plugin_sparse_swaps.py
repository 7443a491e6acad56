"""The pruner sparse-swaps, against brute force, against the errors of networks, and against Wanda."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_hessian import swaps
from pruningbench_hessian.layerwise import row_mask
from pruningbench_hessian.scores import Wanda
from pruningbench_hessian.swapping import SparseSwaps
from pruningbench_hessian.swaps import row_errors, swapped
from torch import Tensor, nn
from torch.nn import functional

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import PruningContext
from pruningbench.errors import PruningBenchError, ScoreError
from pruningbench.plugins import load_registry
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.suite.binding import BindingError, bind


def problem(seed: int, groups: int, rows: int, width: int, samples: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, inputs (groups, d, n) that mostly follow two factors, and their Gram matrices."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = draw(groups, width, 2) @ draw(groups, 2, samples) + 0.3 * draw(groups, width, samples)
    return draw(groups, rows, width), inputs, inputs @ inputs.transpose(1, 2)


def wanda(weights: Tensor, gram: Tensor, prune: int) -> Tensor:
    scores = weights.abs() * gram.diagonal(dim1=1, dim2=2).sqrt().unsqueeze(1)
    return row_mask(scores.flatten(0, 1), prune).view(weights.shape)


def error(weights: Tensor, inputs: Tensor, kept: Tensor) -> float:
    """The definition: the squared change of one row's outputs."""
    return float(((weights - weights * kept) @ inputs).square().sum())


def best_swap(weights: Tensor, inputs: Tensor, kept: Tensor) -> tuple[float, Tensor]:
    """Return the smallest error after any single swap, by trying all of them, and its mask."""
    found = (math.inf, kept)
    for new in kept.nonzero().flatten().tolist():
        for back in (~kept).nonzero().flatten().tolist():
            changed = kept.clone()
            changed[new], changed[back] = False, True
            if (now := error(weights, inputs, changed)) < found[0]:
                found = (now, changed)
    return found


def test_the_error_of_rows_is_the_squared_change_of_their_outputs() -> None:
    weights, inputs, gram = problem(0, 2, 3, 8)
    mask = wanda(weights, gram, 23)
    found = row_errors(weights, gram, mask)
    for group in range(2):
        for row in range(3):
            expected = error(weights[group, row], inputs[group], mask[group, row])
            assert float(found[group, row]) == pytest.approx(expected, rel=1e-12)
    assert (row_errors(weights, gram, torch.ones_like(mask)) == 0).all()


@pytest.mark.parametrize("start", [17, 23, 36, 55, "random"])
def test_every_step_is_the_best_swap_that_brute_force_finds(start: Any) -> None:
    weights, inputs, gram = problem(7 if start == "random" else start, 2, 3, 12)
    if start == "random":  # with other numbers of weights in each row, and a row without pruned ones
        mask = torch.rand(2, 3, 12, generator=torch.Generator().manual_seed(0)) > torch.linspace(0, 0.9, 6).view(
            2, 3, 1
        )
    else:
        mask = wanda(weights, gram, start)
    steps = [mask]
    while True:
        steps.append(swapped(weights, gram, mask, len(steps)))
        for group in range(2):
            for row in range(3):
                w, x, before, after = weights[group, row], inputs[group], steps[-2][group, row], steps[-1][group, row]
                smallest, best = best_swap(w, x, before)
                if smallest < error(w, x, before) * (1 - 1e-9):
                    assert torch.equal(after, best)
                else:
                    assert torch.equal(after, before)
        if torch.equal(steps[-1], steps[-2]):
            break
    assert len(steps) >= 3  # one swap, and one more that does nothing
    assert torch.equal(steps[-1], swapped(weights, gram, mask, 1000))


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4), st.integers(2, 9), st.floats(0, 1))
@cases(60)
def test_the_error_never_grows_and_each_row_keeps_its_number(
    seed: int, groups: int, rows: int, width: int, share: float
) -> None:
    weights, _, gram = problem(seed, groups, rows, width, samples=4)  # singular where there are more inputs
    start = wanda(weights, gram, round(share * weights.numel()))
    before = start.clone()
    errors = row_errors(weights, gram, start)
    for most in (0, 1, 2, 5, 100):
        mask = swapped(weights, gram, start, most)
        assert torch.equal(mask.sum(2), start.sum(2))
        now = row_errors(weights, gram, mask)
        assert bool((now <= errors * (1 + 1e-12) + 1e-12).all())
        errors = now
    assert torch.equal(start, before)
    assert torch.equal(swapped(weights, gram, start, 0), start)


def test_it_comes_near_the_best_of_all_masks() -> None:
    wandas, found, optimal = [], [], []
    for seed in range(12):
        weights, inputs, gram = problem(100 + seed, 1, 1, 10)
        start = wanda(weights, gram, 5)
        mask = swapped(weights, gram, start, 100)
        everything = []
        for kept in combinations(range(10), 5):
            one = torch.zeros(10, dtype=torch.bool)
            one[list(kept)] = True
            everything.append(error(weights[0, 0], inputs[0], one))
        optimal.append(min(everything))
        wandas.append(float(row_errors(weights, gram, start).sum()))
        found.append(float(row_errors(weights, gram, mask).sum()))
        assert found[-1] >= optimal[-1] * (1 - 1e-9)
    assert sum(f <= o * (1 + 1e-9) for f, o in zip(found, optimal, strict=True)) >= 6
    assert sum(found) - sum(optimal) < 0.3 * (sum(wandas) - sum(optimal))


def test_uncorrelated_inputs_leave_wandas_mask() -> None:
    """With a diagonal Gram matrix Wanda is the optimum, so that nothing is swapped; nor is anything among equals."""
    weights, _, gram = problem(3, 2, 4, 10)
    diagonal = torch.diag_embed(gram.diagonal(dim1=1, dim2=2))
    start = wanda(weights, diagonal, 37)
    assert torch.equal(swapped(weights, diagonal, start, 100), start)
    for w, h in ((torch.ones_like(weights), torch.eye(10).double().expand(2, 10, 10)), (weights, gram * 0)):
        assert torch.equal(swapped(w, h, start, 100), start)


def test_the_rows_processed_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _, gram = problem(4, 3, 5, 7)
    start = wanda(weights, gram, 50)
    whole = swapped(weights, gram, start, 100)
    monkeypatch.setattr(swaps, "STEP_ENTRIES", 1)
    assert torch.equal(swapped(weights, gram, start, 100), whole)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2, groups=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 4),
    )  # fmt: skip


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 24), nn.Tanh(), nn.Linear(24, 5))


def job(build: Callable[[], nn.Module]) -> tuple[Any, Tensor, PruningContext]:
    with isolated_randomness("swaps", build.__name__):
        network, images = build().eval().double(), torch.rand(14, 3, 6, 6, dtype=torch.float64)
    batches = [(images[:9], None), (images[9:], None)]
    return network, images, PruningContext(network, prunable_parameters(network), batches=lambda: iter(batches))


@pytest.mark.parametrize("build", [linear, convolutions])
def test_without_swaps_it_is_wanda(build: Callable[[], nn.Module]) -> None:
    _, _, context = job(build)
    found = SparseSwaps(swaps=0, rerun=False).prune(context, 0.6)
    assert dict(found.provenance["error_left"]) == dict.fromkeys(context.parameters, 1.0)
    expected = Wanda().prune(context, 0.6)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("rerun", [False, True])
def test_the_outputs_of_each_layer_of_a_network_change_less(rerun: bool) -> None:
    network, images, context = job(linear)
    dense = {name: value.clone() for name, value in network.state_dict().items()}
    swapped_masks = SparseSwaps(rerun=rerun).prune(context, 0.6)
    start = SparseSwaps(rerun=rerun, swaps=0).prune(context, 0.6)
    assert all(torch.equal(value, dense[name]) for name, value in network.state_dict().items())
    inputs, network = images.flatten(1), network.requires_grad_(False)
    for masks in (start, swapped_masks):
        assert masks.total - masks.kept == round(0.6 * masks.total)
    errors = {}
    for label, masks in (("wanda", start), ("swaps", swapped_masks)):
        first = network[1].weight * masks["1.weight"]
        hidden = torch.tanh(functional.linear(inputs, first if rerun else network[1].weight, network[1].bias))
        second = network[3].weight * ~masks["3.weight"]
        errors[label] = [float((inputs @ (network[1].weight - first).T).square().sum())]
        errors[label].append(float((hidden @ second.T).square().sum()))
    left = swapped_masks.provenance["error_left"]
    assert left["1.weight"] == pytest.approx(errors["swaps"][0] / errors["wanda"][0], rel=1e-9)
    assert max(left.values()) < 0.9
    if not rerun:  # the same inputs for both
        assert left["3.weight"] == pytest.approx(errors["swaps"][1] / errors["wanda"][1], rel=1e-9)


def test_what_it_refuses() -> None:
    network, images, _ = job(linear)
    broken = images.clone()
    broken[0, 0, 0, 0] = torch.inf
    parameters = prunable_parameters(network)
    with pytest.raises(ScoreError, match=r"scores of '1.weight': \d+ of 2592 are NaN or infinite"):
        SparseSwaps().prune(PruningContext(network, parameters, batches=lambda: iter([(broken, None)])), 0.5)
    with pytest.raises(PruningBenchError, match="'sparse-swaps' needs data"):
        SparseSwaps().prune(PruningContext(network, parameters), 0.5)
    assert "ConvTranspose2d" in str(SparseSwaps().refuses(nn.Sequential(nn.ConvTranspose2d(3, 3, 2))))
    for field, value in (("swaps", -1), ("samples", 0)):
        with pytest.raises(BindingError, match=f"{field} must be at least"):
            bind(load_registry(), "pruner", {"use": "sparse-swaps", field: value})
