"""Memory of interpretability with 50,000 images of 224 x 224 and three methods; the bar is 8 GB in all.

The images, normalised, would take 30 GB, and the maps of three methods with their signed attributions another 120 GB.
The figure is the largest resident size of a process of its own, with interpreter, libraries, network and data, under
``--memory 4GB``, the default. The network is small, so that the images and maps are what takes memory: on a CPU they
are in the same memory as everything else, so the sum of device and host stays below the bar of either.

    python -m pytest benchmarks/bench_interpretability_memory.py --benchmark-only -s
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

BAR_GB = 8.0
IMAGES = int(os.environ.get("PRUNINGBENCH_BENCH_IMAGES", "50000"))
METHODS = ("saliency", "gradient-shap", "integrated-gradients")
METRICS = ("gini", "map-ssim")


def measure() -> None:
    """Explain the images in this process and print the peak in GB (1e9 bytes), and the number of values."""
    import torch
    from torch import nn

    from pruningbench.contract import Context, Preprocessing, Samples, VisionModel
    from pruningbench.contract.sample import Sample
    from pruningbench.harness.measure import measure as measured
    from pruningbench.plugins import load_registry
    from pruningbench.store.cache import Cache
    from pruningbench.suite.binding import bind
    from pruningbench.suite.cells import TaskRun

    class Noise(Samples):
        """Images that are drawn when they are read."""

        classes = ("a", "b", "c")
        fingerprint = "noise"

        labels = torch.arange(IMAGES) % 3

        def __len__(self) -> int:
            return IMAGES

        def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
            draw = torch.Generator().manual_seed(i)
            image = torch.randint(256, (3, 224, 224), generator=draw, dtype=torch.uint8)
            return Sample(image, key=str(i), label=int(self.labels[i]))

    def network(seed: int) -> VisionModel:
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(3, 4, 16, 16), nn.GELU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3)
        )
        return VisionModel(layers.eval(), Preprocessing((0.5,) * 3, (0.25,) * 3), classes=Noise.classes)

    torch.set_num_threads(1)
    registry, samples = load_registry(), Noise()
    task = {
        "use": "interpretability",
        "data": "digits",
        "methods": list(METHODS),
        "steps": 2,
        "noisy": 1,
        "exhibits": 2,
    }
    run = TaskRun("maps", bind(registry, "task", task), tuple(bind(registry, "metric", metric) for metric in METRICS))
    context = Context(
        torch.device("cpu"), 0, Cache(), lambda reference: samples, dense=network(1), batch_size=32,
        component=lambda kind, reference: bind(registry, kind, reference),
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = measured(run, network(0), context)
    assert all(m.estimate.n == IMAGES for m in found.measurements), found.failures
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(f"{peak * 1024 / 1e9:.2f} {before * 1024 / 1e9:.2f} {len(found.measurements)}\n")


def test_interpretability_of_many_images_stays_in_memory(benchmark: pytest.FixtureRequest) -> None:
    """Run it once in a process of its own: a peak never falls."""

    def run() -> str:
        code = f"import sys; sys.path.insert(0, {__file__.rpartition('/')[0]!r}); " + (
            "import bench_interpretability_memory as bench; bench.measure()"
        )
        return subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout

    said = benchmark.pedantic(run, rounds=1)  # type: ignore[attr-defined]
    peak, before, values = said.split()
    benchmark.extra_info.update(images=IMAGES, peak_gb=float(peak), before_gb=float(before))  # type: ignore[attr-defined]
    assert int(values) == len(METHODS) * len(METRICS)
    assert float(peak) <= BAR_GB, f"{peak} GB"
