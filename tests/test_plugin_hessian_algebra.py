"""The linear algebra of second-order pruning: reference numbers and invariants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_hessian import BlockGram, greedy_removals, joint_update
from pruningbench_hessian.layerwise import damped, obc, row_masks, sparsegpt
from pruningbench_hessian.surgeon import merge_keys, removal_ranks

from pruningbench.errors import PruningBenchError

DATA = Path(__file__).parent / "data/hessian"
ALL = slice(0, None)


def load(name: str) -> dict[str, Any]:
    with np.load(DATA / f"{name}.npz") as found:
        return {key: torch.from_numpy(found[key]) for key in found.files}


def gram(gradients: torch.Tensor, block_size: int, damping: float = 0.1, relative: bool = False) -> BlockGram:
    samples, weights = gradients.shape
    found = BlockGram(weights, block_size, samples, damping=damping, relative=relative, dtype=gradients.dtype)
    for part in torch.split(gradients, 3):
        found.add(part)
    return found


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected.to(found), rtol=rtol, atol=rtol * float(expected.abs().max()))


def test_block_of_a_trained_network() -> None:
    golden = load("block")
    block = gram(golden["gradients"], 32, 1e-4)
    inverse, weights = block.inverses(ALL), golden["weights"][None]
    close(inverse[0], golden["inverse"])
    close(golden["weights"].square() / (2 * block.inverse_diagonal()), golden["saliency"])
    close(joint_update(block.matrices(ALL), weights, golden["kept"][None])[0], golden["joint"])
    order, costs = greedy_removals(inverse, weights, torch.ones(1, 32, dtype=torch.bool))
    assert order[0].tolist() == golden["order"].tolist()
    close(costs[0], golden["costs"], 1e-6)


def test_layerwise_reference_of_a_classifier() -> None:
    golden = load("linear")
    hessian, weights = damped(golden["hessian"][None], 0.01), golden["weights"][None]
    close(torch.linalg.inv(hessian)[0], golden["inverse"])
    new, mask = sparsegpt(weights, hessian, 320)
    assert torch.equal(mask[0], golden["sparsegpt_mask"])
    close(new[0], golden["sparsegpt"])
    new, mask = obc(weights, hessian, 320)
    assert torch.equal(mask[0], golden["obc"] != 0)
    close(new[0], golden["obc"])
    inverses = torch.linalg.inv(hessian).expand(10, -1, -1).clone()
    order, costs = greedy_removals(inverses, weights[0], torch.ones(10, 64, dtype=torch.bool))
    assert torch.equal(order, golden["obc_order"].long())
    close(costs, golden["obc_costs"])


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("samples", [5, 16, 30])
def test_dual_and_padded_blocks_are_the_direct_inverse(samples: int, relative: bool) -> None:
    gradients = random(samples, 41)
    block = gram(gradients, 16, 0.1, relative)
    assert (block.blocks, block.size, block.dual) == (3, 16, samples < 16)
    damping = 0.1 * float(gradients.square().mean()) if relative else 0.1
    expected = []
    for start in range(0, 41, 16):
        rows = gradients[:, start : start + 16]
        full = rows.T @ rows / samples + damping * torch.eye(rows.shape[1], dtype=torch.float64)
        expected.append(torch.linalg.inv(full).diagonal())
    close(block.inverse_diagonal(), torch.cat(expected))
    close(block.from_blocks(block.inverses(ALL).diagonal(dim1=1, dim2=2)), torch.cat(expected))


def test_block_size_one_is_the_damped_diagonal() -> None:
    gradients = random(7, 9)
    close(gram(gradients, 1).inverse_diagonal(), 1 / (gradients.square().mean(0) + 0.1))


def test_relative_damping_follows_the_scale_and_survives_no_gradients() -> None:
    gradients = random(20, 10)
    scaled = gram(gradients * 1e3, 5, 0.01, relative=True).inverse_diagonal()
    close(scaled * 1e6, gram(gradients, 5, 0.01, relative=True).inverse_diagonal())
    dead = gram(torch.zeros(20, 10, dtype=torch.float64), 5, 0.01, relative=True).inverse_diagonal()
    assert bool((dead > 1e20).all())
    assert bool(torch.isfinite(dead).all())


@cases(40)
@given(st.integers(0, 1000), st.integers(2, 8))
def test_joint_update_is_the_minimum_of_the_quadratic(seed: int, n: int) -> None:
    block = gram(random(2 * n, n, seed=seed), n)
    matrix, weights = block.matrices(ALL), random(1, n, seed=seed + 1)
    kept = random(1, n, seed=seed + 2) > 0
    new = joint_update(matrix, weights, kept)
    assert bool((new[~kept] == 0).all())
    change = new - weights

    def increase(change: torch.Tensor) -> float:
        return float(change @ matrix[0] @ change.T) / 2

    pruned = (~kept[0]).nonzero()[:, 0]
    inverse = torch.linalg.inv(matrix[0])
    removed = weights[0, pruned]
    minimum = float(removed @ torch.linalg.solve(inverse[pruned][:, pruned], removed)) / 2
    assert increase(change) == pytest.approx(minimum, rel=1e-8)
    gradient = (change @ matrix[0])[kept]
    assert float(gradient.abs().max() if gradient.numel() else 0) < 1e-9
    nudged = change + 0.1 * random(1, n, seed=seed + 3) * kept
    assert increase(nudged) >= increase(change)


def test_greedy_order_recomputes_the_inverse_after_each_removal() -> None:
    block = gram(random(12, 6), 6)
    matrix, weights = block.matrices(ALL)[0], random(1, 6, seed=3)
    order, costs = greedy_removals(block.inverses(ALL), weights, torch.ones(1, 6, dtype=torch.bool))
    left = list(range(6))
    current = weights[0].clone()
    for position, cost in zip(order[0].tolist(), costs[0].tolist(), strict=True):
        inverse = torch.linalg.inv(matrix[left][:, left])
        singles = current[left].square() / (2 * inverse.diagonal())
        assert cost == pytest.approx(float(singles.min()))
        assert left[int(singles.argmin())] == position
        left.remove(position)
        kept = torch.zeros(1, 6, dtype=torch.bool)
        kept[0, left] = True
        current = joint_update(matrix[None], weights, kept)[0]


def test_equal_costs_remove_the_last_first_and_padding_never_before_a_weight() -> None:
    counted = torch.tensor([[True, True, True, False]])
    inverses = torch.eye(4, dtype=torch.float64)[None].clone()
    weights = torch.tensor([[2.0, 2.0, 2.0, 0.0]], dtype=torch.float64)
    order, costs = greedy_removals(inverses, weights, counted)
    assert order.tolist() == [[2, 1, 0, 3]]
    assert costs.tolist() == [[2, 2, 2, float("inf")]]


def test_merging_follows_each_blocks_own_order() -> None:
    order = torch.tensor([[1, 0], [0, 1]])
    costs = torch.tensor([[3.0, 1.0], [2.0, 2.5]], dtype=torch.float64)
    # running maxima: block 0 removes 1 then 0 at 3, 3; block 1 removes 0 then 1 at 2, 2.5
    assert removal_ranks([(order, merge_keys(costs, "greedy"))])[0].tolist() == [[3, 2], [0, 1]]
    # running sums: 3, 4 and 2, 4.5
    assert removal_ranks([(order, merge_keys(costs, "cumulative"))])[0].tolist() == [[2, 1], [0, 3]]
    equal = torch.ones(1, 2, dtype=torch.float64)
    first, second = removal_ranks([(order[:1], equal), (order[1:], equal)])
    assert (first.tolist(), second.tolist()) == ([[3, 2]], [[0, 1]])


def test_row_masks_prune_each_row_alike_and_exactly_k() -> None:
    scores = {"a": torch.ones(7, 3, 2), "b": random(5, 4)}
    masks = row_masks(scores, 0.6, "uniform")
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.6 * 62)
    for mask in masks.values():
        counts = (~mask).flatten(1).sum(1)
        assert int(counts.max() - counts.min()) <= 1
    assert torch.equal(masks["a"].flatten(1)[:, :2], torch.ones(7, 2, dtype=torch.bool))
    lowest = scores["b"][~masks["b"]].max()
    assert row_masks({"b": scores["b"]}, 0.5, "uniform")["b"].sum(1).tolist() == [2] * 5
    assert float(lowest) > float(scores["b"].min())


def test_not_positive_definite_is_said() -> None:
    block = gram(random(4, 4), 4, damping=-10.0)
    with pytest.raises(PruningBenchError, match="not positive-definite"):
        block.inverses(ALL)
    with pytest.raises(PruningBenchError, match="not positive-definite"):
        gram(random(2, 4), 4, damping=-10.0).inverse_diagonal()


@pytest.mark.parametrize("columns", [1, 5, 64])
def test_sparsegpt_prunes_exactly_k_in_any_blocks_of_columns(columns: int) -> None:
    golden = load("linear")
    weights = golden["weights"].view(2, 5, 64)
    hessians = damped(torch.stack([golden["hessian"], golden["hessian"]]), 0.01)
    new, mask = sparsegpt(weights, hessians, 321, columns)
    assert int((~mask).sum()) == 321
    assert bool((new[~mask] == 0).all())
