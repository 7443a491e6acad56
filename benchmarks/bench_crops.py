"""Training input: random crops of photographs through `CropLoader` against timm's `create_loader`.

    pytest benchmarks/bench_crops.py
    PRUNINGBENCH_BENCH_IMAGES=2000 PRUNINGBENCH_BENCH_WORKERS=8 pytest benchmarks/bench_crops.py

Both decode the same JPEG files of 500 x 375 pixels in as many worker processes, apply the same transform of timm's, and
normalise whole batches. `extra_info` has for both the images a second and the processor time an image of all processes
together, and two ratios, above 1 if ours is faster. Passes alternate; the ratios are medians of those of neighbouring
passes. On a machine with other work only that of processor time means something. Nothing is asserted about times.
"""

from __future__ import annotations

import io
import os
import resource
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


Loading = tuple[Iterable[tuple[torch.Tensor, torch.Tensor]], Callable[[], None]]
"""The batches of a pass, and what ends the worker processes."""


def ours(contents: list[bytes], policy: str) -> Loading:
    """Return a pass of ours."""
    labels = torch.zeros(len(contents), dtype=torch.int64)
    samples = EncodedSamples(
        [str(i) for i in range(len(contents))], contents.__getitem__, name=str, fingerprint="bench", labels=labels
    )
    model = VisionModel(nn.Linear(1, 1), PREPROCESSING)
    crops = CropSettings(auto_augment=policy, workers=WORKERS)
    loader = CropLoader(model, samples, labels, BATCH, crops, seed=0)
    return loader.epoch(0), loader.close


def theirs(contents: list[bytes], policy: str) -> Loading:
    """Return a pass of timm's."""
    files = Files(contents)
    loader = create_loader(
        files, (3, SIZE, SIZE), BATCH, is_training=True, scale=(0.08, 1.0), color_jitter=None,
        auto_augment=policy or None, interpolation=PREPROCESSING.interpolation, mean=PREPROCESSING.mean,
        std=PREPROCESSING.std, num_workers=WORKERS, device=torch.device("cpu"), pin_memory=False,
        persistent_workers=True, use_prefetcher=True,
    )  # fmt: skip
    repaired(files.transform)

    def close() -> None:
        loader.loader._iterator._shutdown_workers()  # there is an iterator once a pass has begun

    return loader, close


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it has started and that have ended."""
    mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime


def timed(start: Callable[[list[bytes], str], Loading], contents: list[bytes], policy: str) -> tuple[float, float]:
    """Return the seconds and the processor seconds of a pass, an image."""
    began, used = time.perf_counter(), processor_seconds()
    batches, close = start(contents, policy)
    for _ in batches:
        pass
    close()
    return (time.perf_counter() - began) / IMAGES, (processor_seconds() - used) / IMAGES


@pytest.mark.parametrize("policy", POLICIES)
def test_crops(benchmark: BenchmarkFixture, policy: str) -> None:
    contents = [photograph(seed) for seed in range(64)] * (IMAGES // 64)
    for warm in (ours, theirs):
        timed(warm, contents[:64], POLICIES[policy])
    pairs = [[timed(one, contents, POLICIES[policy]) for one in (ours, theirs)] for _ in range(PASSES)]
    benchmark.pedantic(lambda: timed(ours, contents, POLICIES[policy]), rounds=1)
    for i, name in enumerate(("ours", "timm")):
        benchmark.extra_info[f"{name}, images a second"] = round(1 / min(pair[i][0] for pair in pairs), 1)
        benchmark.extra_info[f"{name}, processor ms an image"] = round(1e3 * min(pair[i][1] for pair in pairs), 3)
    benchmark.extra_info["ratio of images a second"] = round(statistics.median(b[0] / a[0] for a, b in pairs), 3)
    benchmark.extra_info["ratio of processor time"] = round(statistics.median(b[1] / a[1] for a, b in pairs), 3)
