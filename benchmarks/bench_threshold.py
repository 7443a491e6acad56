"""Threshold of many scores: keep_highest against torch.kthvalue and one comparison, in one run.

    pytest benchmarks/bench_threshold.py
    PRUNINGBENCH_BENCH_SCORES=85e6 pytest benchmarks/bench_threshold.py

The ratio (kthvalue's best time / ours) stands in `extra_info`; nothing is asserted about times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from pruningbench.pruning.top_k import keep_highest

SCORES = int(float(os.environ.get("PRUNINGBENCH_BENCH_SCORES", "10e6")))
LAYER = 2_359_296  # weights of one linear map of a ViT-B/16 block, 768 x 3072


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """Return the shortest wall-clock time of some runs, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.fixture(scope="module")
def scores() -> Tensor:
    """(SCORES,) float32 magnitudes of normal weights."""
    return torch.randn(SCORES, generator=torch.Generator().manual_seed(0)).abs()


@pytest.mark.benchmark(group="threshold")
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95])
def test_threshold(benchmark: BenchmarkFixture, scores: Tensor, sparsity: float) -> None:
    layers = list(scores.split(LAYER))
    prune = round(sparsity * SCORES)

    def peer() -> Tensor:
        return scores > scores.kthvalue(prune).values

    peer()  # both sides: one run to warm up, then the best of five
    seconds = best_of(5, peer)
    masks = benchmark.pedantic(keep_highest, (layers, prune), rounds=5, warmup_rounds=1)
    kept = torch.cat(masks)
    assert int(kept.sum()) == SCORES - prune
    # they differ at most where scores equal the threshold: kthvalue's comparison drops them all
    assert bool((scores[kept ^ peer()] == scores.kthvalue(prune).values).all())
    benchmark.extra_info["scores"] = SCORES
    benchmark.extra_info["kthvalue_seconds"] = seconds
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ratio_kthvalue"] = seconds / benchmark.stats.stats.min
