"""The ResNets that the suites cifar and pruners-cifar build from examples/."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.pruning.scope import prunable_parameters

EXAMPLE = Path(__file__).parent.parent / "examples/cifar_resnets.py"


def test_the_network_has_the_published_shape() -> None:
    with isolated_randomness("resnet20"):
        network: nn.Module = runpy.run_path(str(EXAMPLE))["cifar_resnet"]().eval()
        images = torch.randn(2, 3, 32, 32)
    assert sum(p.numel() for p in network.parameters()) == 269_722
    prunable = prunable_parameters(network)
    assert (len(prunable), sum(p.numel() for p in prunable.values())) == (20, 268_336)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("layer1", "layer2", "layer3"):
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
    assert network(images).shape == (2, 10)
    assert shapes == {"layer1": (16, 32, 32), "layer2": (32, 16, 16), "layer3": (64, 8, 8)}


@pytest.mark.parametrize(("depth", "parameters"), [(32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)])
def test_depths_have_the_published_sizes(depth: int, parameters: int) -> None:
    """Table 6 of the paper: .46, .66, .85 and 1.7 million."""
    build = runpy.run_path(str(EXAMPLE))["cifar_resnet"]
    network: nn.Module = build(depth)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in network.modules()) == depth
    with pytest.raises(ValueError, match="6 n"):
        build(depth + 1)


def test_a_shortcut_that_grows_takes_every_second_pixel_between_zeros() -> None:
    block: nn.Module = runpy.run_path(str(EXAMPLE))["Block"](4, 8).eval()
    nn.init.zeros_(block.bn2.weight)  # type: ignore[union-attr, arg-type]
    images = torch.rand(1, 4, 6, 6)
    expected: Tensor = torch.zeros(1, 8, 3, 3)
    expected[:, 2:6] = images[..., ::2, ::2]
    assert torch.equal(block(images), expected)
