"""Pruners on an NVIDIA GPU against the CPU; `make test` leaves them out, and without a GPU they fail."""

from __future__ import annotations

import warnings

import pytest
import torch
from kit.conformance import FAST
from torch import nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Pruner, PruningContext
from pruningbench.contract.precision import kernels
from pruningbench.errors import CollapseWarning
from pruningbench.plugins import load_registry
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.suite.binding import bind
from pruningbench.testing.pruners import SHAPE, batches, network_for

pytestmark = pytest.mark.gpu
REGISTRY = load_registry()
PRUNERS = sorted(name for name in REGISTRY.names("pruner") if not name.startswith("toy-"))
FLIPPED = 0.02
"""Largest share of the masks that the rounding of float32 may decide otherwise on a GPU."""


def pruned(name: str, device: torch.device | str, dtype: torch.dtype) -> tuple[Masks, nn.Module]:
    """Prune a small network of the conformance tests as the harness does."""
    use = bind(REGISTRY, "pruner", {"use": name, **FAST.get(name, {})})
    subject = network_for(use).to(device, dtype)
    pruner = use.component
    assert isinstance(pruner, Pruner)

    def data():
        for images, labels in batches():
            yield images.to(device, dtype), labels.to(device)

    context = PruningContext(
        subject, prunable_parameters(subject), 0, data if pruner.needs_data else None, input_shape=SHAPE
    )
    with isolated_randomness("prune"), warnings.catch_warnings(), kernels("float32"):
        warnings.simplefilter("ignore", CollapseWarning)
        return pruner.prune(context, 0.5), subject


@pytest.mark.parametrize("name", PRUNERS)
def test_in_float64_the_masks_and_weights_are_those_of_the_cpu(name: str, gpu: torch.device) -> None:
    (here, weights), (there, moved) = (pruned(name, device, torch.float64) for device in ("cpu", gpu))
    assert there == here
    assert next(iter(moved.parameters())).device.type == gpu.type
    for (label, one), other in zip(weights.state_dict().items(), moved.state_dict().values(), strict=True):
        assert torch.allclose(other.cpu(), one, rtol=1e-7, atol=1e-9), label


@pytest.mark.parametrize("name", PRUNERS)
def test_in_float32_few_masks_differ_and_a_repeat_gives_equal_bits(name: str, gpu: torch.device) -> None:
    (here, _), (there, weights), (again, repeated) = (
        pruned(name, device, torch.float32) for device in ("cpu", gpu, gpu)
    )
    assert again == there
    for one, other in zip(weights.state_dict().values(), repeated.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    flipped = sum(int((here[layer] != there[layer]).sum()) for layer in here)
    assert flipped <= FLIPPED * here.total
    assert there.kept == here.kept
