"""Four figures of one NVIDIA GPU, each with its bar; without a GPU they fail. About two minutes each on an H100.

ROAD against SciPy's sparse solves on the CPU; how busy the device is while networks are evaluated in bf16; a suite of
small models by workers that share the GPU, against one worker; the memory of CAP on ViT-B/16. Weights are random and
images are made here, so nothing is downloaded. `PRUNINGBENCH_GPU_REHEARSAL=1` rehearses the code on a CPU, at a
tiny size, on tensors that only say they are on a GPU: its figures mean nothing.

    make bench-gpu
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bench_executors import MAIN
from bench_road import by_scipy, case
from kit.gpu import gpu, rehearsing
from pruningbench_interpretability import road_impute
from pytest_benchmark.fixture import BenchmarkFixture

from pruningbench.contract import ArraySamples, Context, PruningContext, VisionModel
from pruningbench.contract.precision import computed_in, kernels
from pruningbench.plugins import load_registry
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.store.cache import Cache
from pruningbench.suite.binding import bind

__all__ = ["gpu"]
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
SMALL = rehearsing()
"""Whether sizes are those of a rehearsal."""
IMAGES, BATCH = (8, 4) if SMALL else (8192, 256)
CELLS, WORKERS = (3, 2) if SMALL else (96, 8)
SAMPLES = 2 if SMALL else 256
NAMES = {"resnet50": "resnet18", "vit_base_patch16_224": "vit_tiny_patch16_224"}
"""The networks, and what takes their place in a rehearsal."""


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")


def told(benchmark: BenchmarkFixture, what: str, figure: float, bar: float, unit: str, *, most: bool = False) -> None:
    """Print a figure and its bar, and keep both."""
    met = figure <= bar if most else figure >= bar
    say(f"\n{what}: {figure:.3g}{unit}, bar {'at most' if most else 'at least'} {bar:g}{unit}: "
          f"{'met' if met else 'NOT MET'}{' (rehearsal: means nothing)' if SMALL else ''}")  # fmt: skip
    benchmark.extra_info.update({what: figure, "bar": bar, "device": torch.cuda.get_device_name(0)})


def seconds(work: Callable[[], object]) -> float:
    """Return the time until the device has finished."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def network(name: str, device: torch.device) -> VisionModel:
    """Return a network with random weights on the device, its convolutions channels last."""
    name = NAMES[name] if SMALL else name
    use = bind(load_registry(), "model", {"use": "timm", "name": name, "pretrained": False})
    context = Context(device, 0, Cache(Path(os.devnull)), lambda _reference: pytest.fail("no data set is needed"))
    model: VisionModel = use.component.load(context)  # type: ignore[attr-defined]
    model.network.to(device, memory_format=torch.channels_last)
    return model


def test_road_against_scipy(benchmark: BenchmarkFixture, gpu: torch.device) -> None:
    """Time both; the peer is timed on a part of the images."""
    images, keep = case()
    every = 40 if SMALL else 4
    images, keep = (images[:4], keep[:4]) if SMALL else (images, keep)
    times = 1 if SMALL else 16
    there = images.to(gpu).repeat(times, 1, 1, 1), keep.to(gpu).repeat(times, 1, 1, 1)
    with kernels("float32"):
        road_impute(*there)  # loads the kernels
        own = min(seconds(lambda: road_impute(*there)) for _ in range(1 if SMALL else 5)) / times
        ours = benchmark.pedantic(road_impute, args=there, rounds=1)[: len(images) : every].cpu().double().numpy()
    start = time.perf_counter()
    theirs = [by_scipy(images[i].double().numpy(), keep[i, 0].numpy()) for i in range(0, len(images), every)]
    peer = (time.perf_counter() - start) * len(images) / len(theirs)
    assert np.abs(ours - np.stack(theirs)).max() < 5e-4
    told(benchmark, "ROAD against SciPy", peer / own, 100, " x")


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Collect the share of the time in which the driver saw a kernel run, ten times a second; nothing without NVML."""
    found: list[float] = []
    over = threading.Event()

    def look() -> None:
        try:
            while not over.wait(0.1):
                found.append(torch.cuda.utilization(0) / 100)
        except (ImportError, RuntimeError):  # no pynvml, or no right to ask
            found.clear()

    thread = threading.Thread(target=look, daemon=True)
    if not SMALL:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        if not SMALL:
            thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_the_device_is_busy_in_an_evaluation(benchmark: BenchmarkFixture, name: str, gpu: torch.device) -> None:
    """Evaluate the task `classification` in bf16, and time the same passes on images that are already there."""
    from pruningbench_transfer.metrics import Accuracy
    from pruningbench_transfer.tasks import Classification

    model = network(name, gpu)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 224, 224), generator=generator, dtype=torch.uint8)
    samples = ArraySamples(images, torch.arange(IMAGES) % len(model.classes), classes=model.classes)

    def evaluate() -> float:
        context = Context(gpu, 0, Cache(Path(os.devnull)), lambda _reference: samples, batch_size=BATCH)
        ((_, outputs),) = Classification(data="bench").run(model, context)
        return float(Accuracy().values(outputs).float().mean())

    there = torch.randn(BATCH, 3, 224, 224).to(gpu).contiguous(memory_format=torch.channels_last)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with computed_in("bf16", model.network):
        evaluate()  # loads the kernels, and fills the allocator
        with torch.inference_mode():
            model.logits(there)
            start.record()
            for _ in range(IMAGES // BATCH):
                model.logits(there)
            end.record()
            torch.cuda.synchronize()
        with utilisation() as seen:
            wall = seconds(lambda: benchmark.pedantic(evaluate, rounds=1))
    passes = start.elapsed_time(end) / 1000
    say(f"\n{name}: {IMAGES / wall:.0f} images a second")
    told(benchmark, f"{name}: time of the passes alone / time of the evaluation", 100 * passes / wall, 80, " %")
    if seen:
        told(benchmark, f"{name}: device busy, as NVML says", 100 * float(np.mean(seen)), 80, " %")


def suite_seconds(place: Path, name: str, *options: str) -> float:
    """Run the suite in a process of its own, from nothing but a trained model, and return its time."""
    device = "cpu" if SMALL else "cuda"  # other processes do not see what stands in for the GPU
    environment = {**os.environ, "PRUNINGBENCH_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", MAIN, "run", f"{name}.yaml", "--device", device, "--out", f"run-{name}", *options],
        cwd=place, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - start


def test_small_models_share_the_gpu(benchmark: BenchmarkFixture, gpu: torch.device, tmp_path: Path) -> None:
    """Time one worker and several; both start from a cache that holds the trained model."""
    task: dict[str, Any] = {
        "use": "interpretability",
        "data": {"use": "digits", "split": "test", "limit": 2 if SMALL else 60},
        "methods": ["smoothgrad", "integrated-gradients"], "noisy": 32, "steps": 32, "exhibits": 0,
    }  # fmt: skip
    suite = {"models": ["digits-resnet"], "pruners": ["magnitude"], "tasks": [task]}
    for name, cells in (("warm", 1), ("one", CELLS), ("shared", CELLS)):
        shares = [0, *(round((i + 1) / (cells + 2), 4) for i in range(cells - 1))]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "sparsities": shares, **suite}))
    suite_seconds(tmp_path, "warm")
    one = suite_seconds(tmp_path, "one", "--executor", "serial")
    shared = suite_seconds(tmp_path, "shared", "--executor", "processes", "--workers", str(WORKERS))
    benchmark.pedantic(lambda: None, rounds=1)
    say(f"\n{CELLS} cells: {one:.1f} s by one worker, {shared:.1f} s by {WORKERS}")
    told(benchmark, f"{WORKERS} workers on one GPU", one / shared, 3, " x")


def test_cap_on_a_vision_transformer(benchmark: BenchmarkFixture, gpu: torch.device) -> None:
    """Prune ViT-B/16 to 50 % and read the largest memory that torch has had."""
    model = network("vit_base_patch16_224", gpu)
    pruner: Any = bind(
        load_registry(),
        "pruner",
        {"use": "cap", "samples": SAMPLES, "memory_gb": 16.0, **({"block_size": 8} if SMALL else {})},
    ).component
    generator = torch.Generator().manual_seed(0)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, SAMPLES, 64):
            count = min(64, SAMPLES - start)
            yield torch.randn(count, 3, 224, 224, generator=generator).to(gpu), torch.arange(count).to(gpu)

    parameters = prunable_parameters(model.network)
    if SMALL:
        parameters = dict(list(parameters.items())[1:3])
    context = PruningContext(model.network, parameters, 0, batches, input_shape=(3, 224, 224))
    torch.cuda.reset_peak_memory_stats(gpu)
    with kernels("float32"):
        took = seconds(lambda: benchmark.pedantic(pruner.prune, args=(context, 0.5), rounds=1))
    weights = sum(parameter.numel() for parameter in parameters.values())
    zeros = sum(int((parameter == 0).sum()) for parameter in parameters.values())
    assert abs(zeros - round(0.5 * weights)) <= 1e-4 * weights
    say(f"\nCAP, {weights / 1e6:.1f}M weights, {SAMPLES} images: {took:.0f} s")
    told(benchmark, "CAP on ViT-B/16", torch.cuda.max_memory_allocated(gpu) / 2**30, 40, " GiB", most=True)
