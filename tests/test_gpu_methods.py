"""Attribution and discovery methods on an NVIDIA GPU against the CPU; `make test` leaves them out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kit.explained import resnet
from kit.methods import METHODS
from kit.stability import infidelity_one_by_one, sensitivity_one_by_one
from pruningbench_interpretability.explaining import ModelExplainer
from pruningbench_interpretability.stability import infidelity, max_sensitivity
from torch import Tensor

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import AttributionSettings, DiscoveryMethod, DiscoverySettings, FoundObjects, Patches
from pruningbench.contract.precision import kernels
from pruningbench.plugins import load_registry
from pruningbench.suite.binding import bind
from pruningbench.testing.methods import explained, maps, planted

pytestmark = pytest.mark.gpu
REGISTRY = load_registry()
CLOSE = 1e-3
"""Largest difference of a map, relative to its largest value; the networks compute in float32."""


def attributions(name: str, device: torch.device | str) -> Tensor | None:
    """Explain the small network of the conformance tests, in images that are not the same everywhere."""
    model, images, targets, settings = explained()
    images = images + 0.1 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    model.network.to(device)
    with kernels("float32"):
        return maps(
            bind(REGISTRY, "attribution-method", name), model, images.to(device), targets.to(device),
            replace(settings, baseline=settings.baseline.to(device)),
        )  # fmt: skip


@pytest.mark.parametrize("name", sorted(REGISTRY.names("attribution-method")))
def test_maps_are_those_of_the_cpu_and_repeat_to_the_bit(name: str, gpu: torch.device) -> None:
    here, there, again = (attributions(name, device) for device in ("cpu", gpu, gpu))
    if here is None:  # a method of transformers
        assert there is None
        return
    assert there is not None and again is not None
    assert torch.equal(there.cpu(), again.cpu())
    assert float((there.cpu() - here).abs().max()) <= CLOSE * float(here.abs().max())


def objects(name: str, device: torch.device | str) -> FoundObjects:
    """Find the planted object."""
    patches = planted()
    attention = patches.attention().to(device)
    lent = Patches(patches.features.to(device), patches.grid, patches.size, lambda: attention)
    method = bind(REGISTRY, "discovery-method", name).component
    assert isinstance(method, DiscoveryMethod)
    with isolated_randomness("method"), kernels("float32"):
        return method.find(lent, DiscoverySettings())


@pytest.mark.parametrize("name", sorted(REGISTRY.names("discovery-method")))
def test_the_objects_found_are_those_of_the_cpu(name: str, gpu: torch.device) -> None:
    here, there = (objects(name, device) for device in ("cpu", gpu))
    assert torch.equal(there.foreground.cpu(), here.foreground)
    assert torch.equal(there.objects.cpu(), here.objects)


@pytest.mark.parametrize("name", ["saliency", "gradient-shap"])
def test_stability_of_many_images_is_that_of_each(name: str, gpu: torch.device) -> None:
    model = resnet()
    model.network.to(gpu).double()
    draw = torch.Generator().manual_seed(5)
    images = torch.randn(5, 3, 32, 32, generator=draw, dtype=torch.float64).to(gpu)
    targets = torch.tensor([0, 3, 1, 2, 0], device=gpu)
    settings = AttributionSettings(torch.zeros(1, 3, 1, 1, dtype=torch.float64, device=gpu), batch_size=16, samples=3)
    explain = ModelExplainer(model, METHODS[name], settings, "l1")
    fields = {"samples": 6, "seed": 1, "index": (4, 0, 9, 2, 3)}
    together = max_sensitivity(explain, images, targets, radius=0.1, batch_size=16, **fields)
    singly = sensitivity_one_by_one(explain, images, targets, radius=0.1, **fields)
    torch.testing.assert_close(together, singly, rtol=1e-9, atol=0)
    signed = explain.attributions(images, targets)
    for batch_size in (4, 16):
        fields |= {"noise": 0.3, "batch_size": batch_size}
        together = infidelity(model.logits, images, signed, targets, **fields)
        singly = infidelity_one_by_one(model.logits, images, signed, targets, **fields)
        torch.testing.assert_close(together, singly, rtol=1e-9, atol=0)
