"""Evaluation of a timm model: images a second against a bare loop over the same loader, in one run.

    pytest benchmarks/bench_models.py
    PRUNINGBENCH_BENCH_MODEL=resnet50 PRUNINGBENCH_BENCH_IMAGES=512 pytest benchmarks/bench_models.py

Both sides evaluate the top-1 accuracy of the same network on the same images: the task `classification`
with its metric, and a loop that a user would write around the network and PyTorch's loader. The images are
in memory at the network's size (``array``), or JPEG files that are decoded and resized (``files``; the
cache of resized images is off, so both decode each time). The ratio (ours / loop, in images a second, of
the best of some rounds) stands in `extra_info`; nothing is asserted about times.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from pruningbench.contract import ArraySamples, Context, EncodedSamples, Samples, VisionModel
from pruningbench.store.cache import Cache

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

MODEL = os.environ.get("PRUNINGBENCH_BENCH_MODEL", "resnet18")
IMAGES = int(os.environ.get("PRUNINGBENCH_BENCH_IMAGES", "128"))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH = 32
ROUNDS = 5


class Fitted(torch.utils.data.Dataset[Any]):
    """The loader's view of the samples: fitted uint8 images and labels."""

    def __init__(self, samples: Samples, model: VisionModel) -> None:
        self.samples, self.fit = samples, model.preprocessing.fit

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = self.fit(self.samples[index])
        return sample.image, int(sample.label or 0)


def bare_loop(samples: Samples, model: VisionModel) -> float:
    """Return the top-1 accuracy, as a user would compute it."""
    hits = 0
    pinned = DEVICE.type == "cuda"
    workers = min(8, os.cpu_count() or 1) if samples.workers else 0
    loader = torch.utils.data.DataLoader(Fitted(samples, model), BATCH, num_workers=workers, pin_memory=pinned)
    with torch.inference_mode():
        for images, labels in loader:
            normal = model.preprocessing.normalise(images.to(DEVICE, non_blocking=True))
            if pinned:
                normal = normal.contiguous(memory_format=torch.channels_last)
            hits += int((model.network(normal).argmax(1) == labels.to(DEVICE)).sum())
    return hits / len(samples)


def evaluation(samples: Samples, model: VisionModel) -> Callable[[], float]:
    """Return what the harness does for the task `classification`, each time in a context of its own."""
    from pruningbench_transfer.metrics import Accuracy
    from pruningbench_transfer.tasks import Classification

    from pruningbench.plugins import load_registry

    load_registry()

    def evaluate() -> float:
        context = Context(DEVICE, 0, Cache(Path(os.devnull)), lambda _reference: samples, batch_size=BATCH)
        ((_, outputs),) = Classification(data="bench").run(model, context)
        return float(Accuracy().values(outputs).float().mean())

    return evaluate


def pictures(count: int, side: int) -> torch.Tensor:
    """Return (count, 3, side, side) uint8 smooth random pictures."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8)


def samples_of(kind: str, model: VisionModel) -> Samples:
    """Return the images in memory, or as JPEG files."""
    labels = torch.arange(IMAGES) % len(model.classes)
    if kind == "array":
        side = model.preprocessing.size or 224
        return ArraySamples(pictures(IMAGES, side), labels, classes=model.classes)
    files = []
    for picture in pictures(IMAGES, 320):
        buffer = BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    read = EncodedSamples([str(i) for i in range(IMAGES)], files.__getitem__, name=str, fingerprint="bench",
                          labels=labels, classes=model.classes)  # fmt: skip
    read.resized = lambda _preprocessing: read  # type: ignore[method-assign]
    return read


@pytest.mark.benchmark(group="evaluation")
@pytest.mark.parametrize("kind", ["array", "files"])
def test_evaluation(benchmark: BenchmarkFixture, kind: str) -> None:
    from kit.models import component

    context = Context(DEVICE, 0, Cache(Path(os.devnull)), lambda _reference: None)  # type: ignore[arg-type, return-value]
    model: VisionModel = component("timm", name=MODEL, pretrained=False).load(context)
    samples = samples_of(kind, model)
    ours = evaluation(samples, model)
    assert ours() == pytest.approx(bare_loop(samples, model), abs=1e-6)
    loop, own = [], []
    for _ in range(ROUNDS):  # in turns, so that whatever else the machine does hits both
        start = time.perf_counter()
        bare_loop(samples, model)
        middle = time.perf_counter()
        ours()
        loop.append(middle - start)
        own.append(time.perf_counter() - middle)
    benchmark.pedantic(ours, rounds=1)
    benchmark.extra_info.update(
        model=MODEL,
        device=DEVICE.type,
        images_per_second=IMAGES / min(own),
        loop_images_per_second=IMAGES / min(loop),
        ratio=min(loop) / min(own),
    )
