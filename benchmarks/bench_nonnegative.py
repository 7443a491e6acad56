"""Exact non-negative least squares against a loop of SciPy's, in one run on the CPU.

    pytest benchmarks/bench_nonnegative.py

Activations of 3136 cells (64 images of 7 x 7) in 512 channels on 10 and on 25 concepts. The ratio (SciPy's best
time / ours) stands in `extra_info` and should be at least 2; nothing is asserted about times.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from pruningbench_interpretability import nmf, nnls
from pytest_benchmark.fixture import BenchmarkFixture
from scipy import optimize
from torch.nn.functional import normalize

CELLS, CHANNELS, PARTS = 3136, 512, 25


@pytest.fixture(scope="module")
def activations() -> torch.Tensor:
    """(CELLS, CHANNELS) float32 >= 0: sparse mixtures of sparse parts, with noise."""
    rng = np.random.default_rng(0)
    amounts = rng.gamma(1, 1, (CELLS, PARTS)) * (rng.random((CELLS, PARTS)) < 0.7)
    parts = rng.gamma(1, 1, (PARTS, CHANNELS)) * (rng.random((PARTS, CHANNELS)) < 0.4)
    noise = 1.5 * rng.normal(size=(CELLS, CHANNELS))
    return torch.from_numpy(np.maximum(amounts @ parts + noise, 0).astype(np.float32))


@pytest.mark.parametrize("concepts", [10, 25])
def test_nnls(benchmark: BenchmarkFixture, activations: torch.Tensor, concepts: int) -> None:
    directions = normalize(nmf(activations, concepts).components, dim=1)
    rows, dictionary = activations.double().numpy(), directions.double().numpy().T.copy()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        theirs = np.stack([optimize.nnls(dictionary, row)[0] for row in rows])
        times.append(time.perf_counter() - start)
    ours = benchmark.pedantic(nnls, (activations, directions), rounds=10, warmup_rounds=2)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-5)
    benchmark.extra_info["scipy_seconds"] = min(times)
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ratio_scipy"] = min(times) / benchmark.stats.stats.min
