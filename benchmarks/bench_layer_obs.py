"""Layer-wise OBS: with `rerun`, which prunes each layer before the next one sees its inputs, against a single pass.

python -m pytest benchmarks/bench_layer_obs.py --benchmark-only -s
"""

from __future__ import annotations

import time
from copy import deepcopy

import pytest
import timm
import torch

import pruningbench as pb

IMAGES, BATCH = 16, 8


def test_rerun_costs_little_more_than_one_pass(benchmark: pytest.FixtureRequest) -> None:
    """Print the ratio of processor times on a ViT-S with 16 images of 224 pixels; the bar is 1.5."""
    network = timm.create_model("vit_small_patch16_224", pretrained=False).eval()
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(BATCH, 3, 224, 224, generator=generator), torch.zeros(BATCH, dtype=torch.long))
        for _ in range(IMAGES // BATCH)
    ]
    seconds = {}

    def measure() -> None:
        for rerun in (False, True):
            copy, start = deepcopy(network), time.process_time()
            pb.prune(copy, "layer-obs", 0.5, batches, samples=IMAGES, rerun=rerun)
            seconds[rerun] = time.process_time() - start

    benchmark.pedantic(measure, rounds=1)  # type: ignore[attr-defined]
    benchmark.extra_info.update(ratio=seconds[True] / seconds[False])  # type: ignore[attr-defined]
    print(f"\n{seconds[True]:.1f} s against {seconds[False]:.1f} s: {seconds[True] / seconds[False]:.2f}")  # noqa: T201
