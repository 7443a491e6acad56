"""A training step on two processes against the same step by torch's `DistributedDataParallel`, and against one process.

    pytest benchmarks/bench_training_processes.py
    PRUNINGBENCH_BENCH_BATCH=64 pytest benchmarks/bench_training_processes.py

ResNet-18, random images, SGD, gloo, one thread for each process, batch norm over each process's share as
`DistributedDataParallel` has it, and once synchronised. `extra_info` has the median seconds of a step and its ratios:
above 1 if ours takes longer. Rounds alternate. Nothing is asserted about times.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn
from torch.multiprocessing import get_context, spawn

from pruningbench.contract import ArraySamples, Preprocessing, VisionModel
from pruningbench.pruning.stepping import Stepper
from pruningbench.training.exchange import _on_loopback
from pruningbench.training.fit import fit
from pruningbench.training.settings import FitSettings

BATCH = int(os.environ.get("PRUNINGBENCH_BENCH_BATCH", "32"))
SIDE = 64
STEPS, WARM = 15, 3
ROUNDS = 3
CLASSES = tuple("0123456789")


def network() -> nn.Module:
    made: Any = timm.create_model("resnet18", num_classes=len(CLASSES))
    return made  # type: ignore[no-any-return]


def ours(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> float:
    """Return the median seconds of a step of the fit loop, without reading the batch."""
    images = torch.randint(0, 255, (BATCH * STEPS, 3, SIDE, SIDE), dtype=torch.uint8)
    samples = ArraySamples(images, torch.arange(len(images)) % len(CLASSES), classes=CLASSES)
    model = VisionModel(network(), Preprocessing((0.5,) * 3, (0.25,) * 3), classes=CLASSES)
    seconds: list[float] = []
    step = Stepper.__call__

    def timed(self: Stepper, *args: Any) -> Any:
        began = time.perf_counter()
        loss = step(self, *args)
        seconds.append(time.perf_counter() - began)
        return loss

    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "__call__", timed)
        fit(model, samples, FitSettings(epochs=1, batch_size=BATCH, **fields), seed=0)
    return statistics.median(seconds[WARM:])


def peer(rank: int, place: str, answer: Any) -> None:
    """Take the steps by `DistributedDataParallel`, in a process of their own."""
    torch.set_num_threads(1)
    with _on_loopback():
        dist.init_process_group("gloo", store=dist.FileStore(place, 2), rank=rank, world_size=2)  # type: ignore[attr-defined]
    model = nn.parallel.DistributedDataParallel(network().train())
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images, labels = torch.randn(BATCH // 2, 3, SIDE, SIDE), torch.arange(BATCH // 2) % len(CLASSES)
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    if not rank:
        answer.put(statistics.median(seconds[WARM:]))
    dist.destroy_process_group()


def theirs(place: Path) -> float:
    answer = get_context("spawn").SimpleQueue()
    spawn(peer, (str(place), answer), nprocs=2)
    return float(answer.get())


def test_step(benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds = [
            (
                ours(monkeypatch),
                ours(monkeypatch, processes=2, sync_norm=False),
                ours(monkeypatch, processes=2),
                theirs(tmp_path / str(number)),
            )
            for number in range(ROUNDS)
        ]
        benchmark.pedantic(lambda: ours(monkeypatch, processes=2, sync_norm=False), rounds=1)
    finally:
        torch.set_num_threads(before)
    names = ("one process", "two processes", "two processes, norms synchronised", "DistributedDataParallel")
    for i, name in enumerate(names):
        benchmark.extra_info[f"{name}, s"] = round(statistics.median(one[i] for one in rounds), 3)
    benchmark.extra_info["ratio to DistributedDataParallel"] = round(statistics.median(r[1] / r[3] for r in rounds), 3)
    benchmark.extra_info["ratio, norms synchronised"] = round(statistics.median(r[2] / r[3] for r in rounds), 3)
    benchmark.extra_info["ratio to one process"] = round(statistics.median(r[1] / r[0] for r in rounds), 3)
