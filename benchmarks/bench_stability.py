"""Max-sensitivity and infidelity of many images at once against captum image by image, on the CPU, one thread.

The peer gives captum one image with its draws; both get the same draws, and their values must agree. Random weights
of `digits-resnet` (36 pixels, grey) and of ResNet-18 at 96 pixels; the defaults of both metrics, batches of 128.
The gain of a CPU is small, since it computes small batches nearly as well as large ones; what a GPU gains is about the
number of passes, which is counted as well. Ratios (peer / ours) of times and of passes stand in `extra_info`.

    python -m pytest benchmarks/bench_stability.py --benchmark-only -s
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from kit.methods import METHODS
from kit.stability import infidelity_one_by_one, sensitivity_one_by_one
from pruningbench_interpretability.explaining import ModelExplainer
from pruningbench_interpretability.stability import infidelity, max_sensitivity
from pruningbench_timm import TimmVisionModel
from pruningbench_timm.networks import small_resnet
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from pruningbench.contract import AttributionSettings, Preprocessing

BATCH, ROUNDS = 128, 3
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "digits-resnet": (lambda: small_resnet(10, (16, 32, 48, 64), 8), (1, 36, 36), 64),
    "resnet18": (lambda: timm.create_model("resnet18", num_classes=10), (3, 96, 96), 12),
}
"""Name -> network, shape of an image, number of images."""
CLOSE = 1e-4
"""Largest relative difference: differences of float32 logits, whose last bits depend on the size of a batch."""


class Case:
    """A network, its images and their signed attributions."""

    def __init__(self, name: str) -> None:
        make, shape, count = NETWORKS[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = make().eval()
        of_channels = (0.5,) * shape[0]
        self.model = TimmVisionModel(network, Preprocessing(of_channels, of_channels), classes=tuple("abcdefghij"))
        self.images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))
        self.settings = AttributionSettings(torch.zeros(1, shape[0], 1, 1), batch_size=BATCH)
        with torch.no_grad():
            self.targets = self.model.logits(self.images).argmax(dim=1)
        self.index = range(count)
        self.passes = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, _module: nn.Module, _inputs: object) -> None:
        self.passes += 1

    def explain(self, method: str) -> ModelExplainer:
        return ModelExplainer(self.model, METHODS[method], self.settings, "l1")

    def timed(self, work: Callable[[], Tensor]) -> tuple[Tensor, float, int]:
        """Return the values, the seconds of processor time and the passes of a call."""
        self.passes, start = 0, time.process_time()
        values = work()
        return values, time.process_time() - start, self.passes


def compare(benchmark: BenchmarkFixture, case: Case, ours: Callable[[], Tensor], peer: Callable[[], Tensor]) -> None:
    """Compare values, then times and passes; rounds alternate, so that other work on the machine slows both."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    benchmark.pedantic(ours, rounds=1)
    rounds = [(case.timed(ours), case.timed(peer)) for _ in range(ROUNDS)]
    torch.set_num_threads(before)
    (values, _, passes), (expected, _, peer_passes) = rounds[0]
    np.testing.assert_allclose(values.numpy(), expected.numpy(), rtol=CLOSE)
    mine, theirs = (sorted(both[i][1] for both in rounds)[ROUNDS // 2] for i in (0, 1))
    benchmark.extra_info.update(
        ratio=theirs / mine, seconds=mine, peer_seconds=theirs, passes=passes, peer_passes=peer_passes,
        largest_difference=float(((values - expected) / expected).abs().max()),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["saliency", "grad-cam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_max_sensitivity(benchmark: BenchmarkFixture, name: str, method: str) -> None:
    """Of two methods that take a pass and a gradient."""
    case = Case(name)
    explain, fields = case.explain(method), {"radius": 0.02, "samples": 10, "seed": 0, "index": case.index}
    compare(
        benchmark,
        case,
        lambda: max_sensitivity(explain, case.images, case.targets, batch_size=BATCH, **fields),
        lambda: sensitivity_one_by_one(explain, case.images, case.targets, **fields),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_infidelity(benchmark: BenchmarkFixture, name: str) -> None:
    """Of gradients."""
    case = Case(name)
    signed = case.explain("vanilla-gradients").attributions(case.images, case.targets)
    fields = {"noise": 0.2, "samples": 32, "seed": 0, "index": case.index, "batch_size": BATCH}
    compare(
        benchmark,
        case,
        lambda: infidelity(case.model.logits, case.images, signed, case.targets, **fields),
        lambda: infidelity_one_by_one(case.model.logits, case.images, signed, case.targets, **fields),
    )
