"""Training input: random crops of photographs through `CropLoader` against timm's `create_loader`.

    pytest benchmarks/bench_crops.py
    PRUNINGBENCH_BENCH_IMAGES=2000 PRUNINGBENCH_BENCH_WORKERS=8 pytest benchmarks/bench_crops.py

Both decode the same JPEG files of 500 x 375 pixels in as many worker processes, apply the same transform of timm's, and
normalise whole batches. `extra_info` has the images a second of both and their ratio: passes alternate, and the ratio
is the median of those of neighbouring passes, because other work on the machine slows both. Nothing is asserted about
times.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable, Iterable

import pytest
import torch
from bench_data import PREPROCESSING, SIZE, photograph
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from timm.data import create_loader
from torch import nn

from pruningbench.contract import EncodedSamples, VisionModel
from pruningbench.training.crops import CropLoader, repaired
from pruningbench.training.settings import CropSettings

IMAGES = int(os.environ.get("PRUNINGBENCH_BENCH_IMAGES", "512"))
WORKERS = int(os.environ.get("PRUNINGBENCH_BENCH_WORKERS", str(min(8, os.cpu_count() or 1))))
BATCH = 64
PASSES = 5
POLICIES = {"crops": "", "randaugment": "rand-m9-mstd0.5-inc1"}


class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The photographs as timm reads them."""

    def __init__(self, contents: list[bytes]) -> None:
        self.contents, self.transform = contents, None

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: int) -> tuple[object, int]:
        image = Image.open(io.BytesIO(self.contents[index])).convert("RGB")
        assert self.transform is not None
        return self.transform(image), 0


def ours(contents: list[bytes], policy: str) -> Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]:
    """Return a function that yields a pass of ours."""
    labels = torch.zeros(len(contents), dtype=torch.int64)
    samples = EncodedSamples(
        [str(i) for i in range(len(contents))], contents.__getitem__, name=str, fingerprint="bench", labels=labels
    )
    model = VisionModel(nn.Linear(1, 1), PREPROCESSING)
    crops = CropSettings(auto_augment=policy, workers=WORKERS)
    loader = CropLoader(model, samples, labels, BATCH, crops, seed=0)
    return lambda: loader.epoch(0)


def theirs(contents: list[bytes], policy: str) -> Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]:
    """Return a function that yields a pass of timm's."""
    files = Files(contents)
    loader = create_loader(
        files, (3, SIZE, SIZE), BATCH, is_training=True, scale=(0.08, 1.0), color_jitter=None,
        auto_augment=policy or None, interpolation=PREPROCESSING.interpolation, mean=PREPROCESSING.mean,
        std=PREPROCESSING.std, num_workers=WORKERS, device=torch.device("cpu"), pin_memory=False,
        persistent_workers=True, use_prefetcher=True,
    )  # fmt: skip
    repaired(files.transform)
    return lambda: iter(loader)


def seconds(passing: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]) -> float:
    """Return how long a pass takes, from its first batch, when all workers are busy, to its last."""
    start, first = time.perf_counter(), 0
    for images, _ in passing():
        if not first:
            start, first = time.perf_counter(), len(images)
    return (time.perf_counter() - start) / (IMAGES - first)


@pytest.mark.parametrize("policy", POLICIES)
def test_crops(benchmark: BenchmarkFixture, policy: str) -> None:
    contents = [photograph(seed) for seed in range(IMAGES)]
    own, other = ours(contents, POLICIES[policy]), theirs(contents, POLICIES[policy])
    for warm in (own, other):
        seconds(warm)
    pairs = [(seconds(own), seconds(other)) for _ in range(PASSES)]
    benchmark.pedantic(lambda: seconds(own), rounds=1)
    benchmark.extra_info["ours, images a second"] = round(1 / min(one for one, _ in pairs), 1)
    benchmark.extra_info["timm, images a second"] = round(1 / min(one for _, one in pairs), 1)
    benchmark.extra_info["ratio"] = round(statistics.median(their / own for own, their in pairs), 3)
