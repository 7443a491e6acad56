"""The pruner block-hessian: against exact Hessians of small networks, and within the bounds of its probes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from kit.hessians import exact, make
from pruningbench_hessian.hutchinson import BlockHessian
from pruningbench_hessian.probing import Probes, block_hessians, hadamard, inverse_diagonal
from torch import Tensor, nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Outline, PruningContext
from pruningbench.errors import PruningBenchError

BLOCK = 6


def blocks_of(matrix: Tensor, context: PruningContext, size: int) -> dict[str, list[Tensor]]:
    """Cut the diagonal blocks out of the exact Hessian."""
    found, start = {}, 0
    for name, parameter in context.parameters.items():
        ends = [*range(0, parameter.numel(), min(size, parameter.numel())), parameter.numel()]
        found[name] = [matrix[start + a : start + b, start + a : start + b] for a, b in pairwise(ends)]
        start += parameter.numel()
    return found


def estimated(context: PruningContext, probes: Probes, *, labels: bool = True, full: bool = True) -> dict[str, Tensor]:
    return block_hessians(context, list(context.parameters), probes, 7, labels=labels, pruner="p", full=full)


def deviation(found: Mapping[str, Tensor], expected: Mapping[str, list[Tensor]]) -> float:
    """Return the relative error of all blocks in the Frobenius norm, and check that padding is zero."""
    error = total = 0.0
    for name, blocks in expected.items():
        assert len(found[name]) == len(blocks)
        for estimate, block in zip(found[name], blocks, strict=True):
            n = len(block)
            assert not estimate[n:].any()
            assert not estimate[:, n:].any()
            error += float((estimate[:n, :n] - block).square().sum())
            total += float(block.square().sum())
    return (error / total) ** 0.5


def number_of_blocks(context: PruningContext) -> int:
    return sum(-(-p.numel() // min(BLOCK, p.numel())) for p in context.parameters.values())


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("name", ["mlp", "vit"])
def test_with_a_group_per_block_and_all_rows_the_blocks_are_exact(name: str, labels: bool) -> None:
    context, images, targets = make(name)
    matrix = exact(context, images, targets if labels else None)
    expected = blocks_of(matrix, context, BLOCK)
    probes = Probes(len(hadamard(BLOCK)), number_of_blocks(context), BLOCK)
    found = estimated(context, probes, labels=labels)
    assert deviation(found, expected) < 1e-10
    if name == "mlp":
        diagonal = estimated(context, probes, labels=labels, full=False)
        torch.testing.assert_close(torch.cat(list(diagonal.values())), matrix.diagonal())
    values = torch.cat([torch.linalg.eigvalsh(block) for blocks in expected.values() for block in blocks])
    assert (
        float(values.min()) < -1e-3 * float(values.max())
    ) == labels  # the model's own labels give the Fisher matrix


def test_the_models_own_labels_give_the_fisher_matrix() -> None:
    context, images, _ = make("mlp")
    parameters = list(context.parameters.values())
    fisher = 0.0
    for image in images:
        logits = context.network(image[None])[0]
        chances = logits.softmax(0).detach()
        for number, chance in enumerate(chances):
            parts = torch.autograd.grad(logits.log_softmax(0)[number], parameters, retain_graph=True)
            gradient = torch.cat([part.flatten() for part in parts])
            fisher = fisher + chance * torch.outer(gradient, gradient) / len(images)
    torch.testing.assert_close(exact(context, images, None), fisher)


@pytest.mark.parametrize(("name", "count"), [("mlp", 20), ("vit", 8)])
def test_few_probes_are_unbiased_and_more_come_closer(name: str, count: int) -> None:
    """The squared error falls as 1 / probes, and one full pass has no error from within the block."""
    context, images, targets = make(name)
    expected = blocks_of(exact(context, images, targets), context, BLOCK)
    rows = len(hadamard(BLOCK))
    draws = [estimated(context, Probes(rows, 1, BLOCK, seed)) for seed in range(count)]
    single = sum(deviation(draw, expected) ** 2 for draw in draws) / count
    mean = {name: torch.stack([draw[name] for draw in draws]).mean(0) for name in expected}
    assert 0.3 < deviation(mean, expected) ** 2 / (single / count) < 3
    together = estimated(context, Probes(count * rows, 1, BLOCK, 99))
    assert 0.3 < deviation(together, expected) ** 2 / (single / count) < 3
    split = sum(deviation(estimated(context, Probes(rows, 4, BLOCK, seed)), expected) ** 2 for seed in range(4)) / 4
    assert split < 0.6 * single  # a quarter of the other blocks


def test_vectors_are_signs_orthogonal_in_each_block_and_the_same_for_all_that_ask() -> None:
    sizes = {"a": 14, "b": 3}
    vectors = list(Probes(16, 2, 5, 1).vectors(sizes))
    assert len(vectors) == 32
    for group in range(2):
        for turn in range(2):
            some = vectors[16 * group + 8 * turn : 16 * group + 8 * turn + 8]
            for number, (name, part) in enumerate(
                [("a", slice(0, 5)), ("a", slice(5, 10)), ("a", slice(10, 14)), ("b", slice(0, 3))]
            ):
                block = torch.stack([vector[name][part] for vector in some])
                expected = 8 * torch.eye(block.shape[1]) if number % 2 == group else torch.zeros(1)
                assert torch.equal(block.T @ block, expected.expand(block.shape[1], block.shape[1]))
    again = list(Probes(16, 2, 5, 1).vectors(sizes))
    assert all(torch.equal(v[n], w[n]) for v, w in zip(vectors, again, strict=True) for n in sizes)
    assert not torch.equal(next(Probes(16, 2, 5, 2).vectors(sizes))["a"], vectors[0]["a"])


@pytest.mark.parametrize("positive", ["absolute", "clamp"])
@pytest.mark.parametrize("saliency", ["obs", "diagonal", "trace"])
def test_scores_follow_from_the_exact_blocks(saliency: Any, positive: Any) -> None:
    context, images, targets = make("vit")
    matrix = exact(context, images, targets)
    pruner = BlockHessian(
        saliency=saliency, positive=positive, probes=8, groups=number_of_blocks(context), block_size=BLOCK
    )
    scores = pruner.score(context)
    for name, blocks in blocks_of(matrix, context, BLOCK).items():
        diagonal = torch.cat([block.diagonal() for block in blocks])
        curvature = []
        for block in blocks:
            if saliency == "diagonal":
                raw = block.diagonal()
            elif saliency == "trace":
                raw = block.diagonal().mean().expand(len(block))
            else:
                padded = nn.functional.pad(block, (0, BLOCK - len(block)) * 2)
                values, vectors = torch.linalg.eigh(padded)
                values = values.abs() if positive == "absolute" else values.clamp(min=0)
                matrix_of = vectors @ torch.diag(values) @ vectors.T + 0.01 * diagonal.abs().mean() * torch.eye(BLOCK)
                raw = 1 / torch.linalg.inv(matrix_of).diagonal()[: len(block)]
            curvature.append(raw.abs() if positive == "absolute" else raw.clamp(min=0))
        squares = context.parameters[name].detach().square().flatten()
        torch.testing.assert_close(scores[name].flatten(), squares * torch.cat(curvature) / 2)


def test_the_saliency_is_the_minimum_of_the_quadratic_without_the_weight() -> None:
    """1 / (2 [M^-1]_qq) is half of what w_q = 1 costs if the other weights of the block adapt."""
    with isolated_randomness("quadratic"):
        half = torch.randn(2, 5, 5, dtype=torch.float64)
    matrices = half @ half.transpose(1, 2)
    diagonal = inverse_diagonal(matrices, 1e-3, clamp=False)
    damped = matrices + 1e-3 * torch.eye(5)
    for block in range(2):
        others = [1, 2, 3, 4]
        best = damped[block, 0, 0] - damped[block, 0, others] @ torch.linalg.solve(
            damped[block][others][:, others], damped[block, others, 0]
        )
        assert 1 / float(diagonal[block, 0]) == pytest.approx(float(best))


def test_layers_apart_and_small_memory_give_the_same_and_wrong_data_is_said() -> None:
    context, images, _ = make("vit")
    whole = BlockHessian(probes=8, block_size=BLOCK)
    scores = whole.score(context)
    largest = max(p.numel() for p in context.parameters.values())
    small = BlockHessian(probes=8, block_size=BLOCK, memory_gb=8 * BLOCK * (largest + BLOCK) / 2**30)
    assert all(torch.equal(scores[name], values) for name, values in small.score(context).items())
    with pytest.raises(PruningBenchError, match="'block-hessian': .* alone needs .* raise memory_gb"):
        BlockHessian(memory_gb=1e-9).score(context)
    unlabelled = PruningContext(context.network, context.parameters, batches=lambda: iter([(images, None)]))
    with pytest.raises(PruningBenchError, match="'block-hessian' needs labels"):
        whole.score(unlabelled)
    assert BlockHessian(labels="model", probes=2).score(unlabelled).keys() == scores.keys()
    assert BlockHessian(groups=0).problem() == "groups must be at least 1"
    outline = Outline({n: tuple(p.shape) for n, p in context.parameters.items()}, samples=7)
    assert whole.cost(outline).backward == 17
