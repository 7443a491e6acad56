"""Forward passes as the harness makes them, against the best bare loop over batch sizes and memory formats.

    pytest benchmarks/bench_passes.py

For each network at 224 pixels: images per second of the chosen memory format and batch size, of the best bare loop
over eight batch sizes and both formats (bar: .95 of it), and of batches of 128 with channels first, which were used
before (bars: 4 x for EfficientNet-Lite0, 1.4 x for the others). All are measured in turns in one process; each is the
best of three. The numbers stand in `extra_info`. Nothing is asserted about times.
"""

from __future__ import annotations

import pytest
import timm
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from pruningbench.contract import Preprocessing, VisionModel
from pruningbench.harness.passes import Passes, calibrate, seconds_of

SIDE = 224
GRID = [Passes(size, last) for last in (False, True) for size in (1, 2, 4, 8, 16, 32, 64)]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "vit_small_patch16_224"])
def test_passes(benchmark: BenchmarkFixture, name: str) -> None:
    """Compare the three."""
    torch.manual_seed(0)
    model = VisionModel(timm.create_model(name).eval(), Preprocessing((0.5,) * 3, (0.25,) * 3, SIDE))
    chosen = benchmark.pedantic(calibrate, (model.clone(), (3, SIDE, SIDE), 128), rounds=1)

    def speed(passes: Passes) -> float:
        twin = model.clone()
        passes.prepare(twin.network)
        return passes.batch_size / seconds_of(twin, (passes.batch_size, 3, SIDE, SIDE))

    turns = [(speed(chosen), max(map(speed, GRID)), speed(Passes(128))) for _ in range(3)]
    ours, best, before = (max(column) for column in zip(*turns, strict=True))
    benchmark.extra_info |= {
        "choice": str(chosen), "images/s": ours, "best bare loop": best, "before": before,
        "ours / best": ours / best, "ours / before": ours / before,
    }  # fmt: skip
