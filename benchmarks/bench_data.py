"""Images for a network: the cache of resized images against decoding each time, and the loader's share of a pass.

    pytest benchmarks/bench_data.py
    PRUNINGBENCH_BENCH_IMAGES=2000 pytest benchmarks/bench_data.py

The ratios stand in `extra_info`: decoding's time over the cache's, each through `VisionModel.batches`, best of
three passes; and the images a second of a ResNet-18 through `batches` over those of a bare loop over the same
tensors. Nothing is asserted about times.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from pruningbench.contract import EncodedSamples, Preprocessing, VisionModel

IMAGES = int(os.environ.get("PRUNINGBENCH_BENCH_IMAGES", "256"))
BATCH = 32
SIZE = 224
PREPROCESSING = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size=SIZE, crop=0.875)


def photograph(seed: int) -> bytes:
    """Return a JPEG of 500 x 375 pixels, as large as ImageNet's are on average, of smooth noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 8, (375, 500, 3))
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    """The encoded images."""
    return [photograph(seed) for seed in range(IMAGES)]


def samples(contents: list[bytes], fingerprint: str) -> EncodedSamples:
    """Return them as samples with a cache of their own."""
    return EncodedSamples(
        [str(i) for i in range(len(contents))],
        contents.__getitem__,
        name=str,
        fingerprint=fingerprint,
        labels=torch.zeros(len(contents), dtype=torch.int64),
    )


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """Return the shortest wall-clock time of some runs, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.benchmark(group="data")
def test_cache_against_decoding(
    benchmark: BenchmarkFixture, contents: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path))
    model = VisionModel(nn.Conv2d(3, 1, 1), PREPROCESSING)
    monkeypatch.setenv("PRUNINGBENCH_IMAGE_CACHE", "0")
    plain = samples(contents, "plain")
    decoded = torch.cat([batch.images for batch in model.batches(plain, BATCH)])
    decoding = best_of(3, lambda: sum(len(batch.images) for batch in model.batches(plain, BATCH)))
    monkeypatch.setenv("PRUNINGBENCH_IMAGE_CACHE", "20")
    cached = samples(contents, "cached")
    first = best_of(1, lambda: sum(len(batch.images) for batch in model.batches(cached, BATCH)))

    def later() -> torch.Tensor:
        return torch.cat([batch.images for batch in model.batches(cached, BATCH)])

    assert torch.equal(later(), decoded)
    count = benchmark.pedantic(
        lambda: sum(len(batch.images) for batch in model.batches(cached, BATCH)), rounds=3, warmup_rounds=1
    )
    assert count == IMAGES
    benchmark.extra_info |= {"images": IMAGES, "decoding_seconds": decoding, "filling_seconds": first}
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ratio_decoding"] = decoding / benchmark.stats.stats.min


@pytest.mark.benchmark(group="data")
def test_evaluation_against_a_bare_loop(
    benchmark: BenchmarkFixture, contents: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path))
    torch.manual_seed(0)
    model = VisionModel(timm.create_model("resnet18").eval(), PREPROCESSING)
    data = samples(contents[:64], "evaluated")
    ready = [batch.images for batch in model.batches(data, BATCH)]

    @torch.inference_mode()
    def bare() -> torch.Tensor:
        return torch.cat([model.network(images) for images in ready])

    @torch.inference_mode()
    def ours() -> torch.Tensor:
        return torch.cat([model.logits(batch.images) for batch in model.batches(data, BATCH)])

    expected = bare()
    seconds = best_of(3, bare)
    assert torch.equal(benchmark.pedantic(ours, rounds=3, warmup_rounds=1), expected)
    benchmark.extra_info["bare_seconds"] = seconds
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["ratio_bare"] = seconds / benchmark.stats.stats.min
