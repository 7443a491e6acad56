"""Block Fisher inverses: Gram matrices and one Cholesky factorisation against rank-one updates.

Both make the diagonal of F^-1 of the same 590k weights in blocks of 192 from the same 512 gradients. The
rank-one way (Sherman-Morrison, one update per gradient) is timed on every 32nd of its 512 equal steps. The
bar is a ratio of 3.

    python -m pytest benchmarks/bench_block_fisher.py --benchmark-only -s
"""

from __future__ import annotations

import time

import pytest
import torch
from pruningbench_hessian import BlockGram

BLOCK, SAMPLES, BLOCKS, EVERY = 192, 512, 3072, 32
DAMPING = 1e-3


def by_cholesky(gradients: torch.Tensor) -> torch.Tensor:
    """Return the diagonal of F^-1 as the plugin makes it."""
    gram = BlockGram(gradients.shape[1], BLOCK, len(gradients), damping=DAMPING, relative=False)
    for part in torch.split(gradients, 64):
        gram.add(part)
    return gram.inverse_diagonal()


def by_rank_one_updates(gradients: torch.Tensor, samples: int) -> torch.Tensor:
    """Return the diagonal of F^-1 by Sherman-Morrison, F the mean over `samples` gradients."""
    inverse = torch.eye(BLOCK).div(DAMPING).repeat(gradients.shape[1] // BLOCK, 1, 1)
    for gradient in gradients:
        rows = gradient.view(-1, BLOCK, 1)
        moved = inverse @ rows
        scale = samples + rows.transpose(1, 2) @ moved
        inverse.baddbmm_(moved / scale, moved.transpose(1, 2), alpha=-1)
    return inverse.diagonal(dim1=1, dim2=2).flatten()


def test_block_fisher_beats_rank_one_updates(benchmark: pytest.FixtureRequest) -> None:
    """Compare values on a few blocks, then times on all."""
    gradients = torch.randn(SAMPLES, BLOCK * BLOCKS, generator=torch.Generator().manual_seed(0))
    few = gradients[:, : 4 * BLOCK]
    torch.testing.assert_close(by_rank_one_updates(few, SAMPLES).double(), by_cholesky(few), rtol=1e-2, atol=0)

    start = time.perf_counter()
    benchmark.pedantic(by_cholesky, args=(gradients,), rounds=1)  # type: ignore[attr-defined]
    ours = time.perf_counter() - start
    start = time.perf_counter()
    by_rank_one_updates(gradients[::EVERY], SAMPLES)
    theirs = (time.perf_counter() - start) * EVERY
    benchmark.extra_info["ratio"] = theirs / ours  # type: ignore[attr-defined]
    assert theirs / ours >= 3, f"ratio {theirs / ours:.2f}"
