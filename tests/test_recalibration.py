"""Recalibration of batch norm: closed forms, and nothing else of the network changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.errors import PruningBenchError
from pruningbench.training.recalibration import recalibrate


def network() -> nn.Sequential:
    with isolated_randomness("recalibration"):
        made = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, momentum=0.3), nn.ReLU(), nn.Conv2d(3, 4, 1),
                             nn.BatchNorm2d(4), nn.Dropout(0.5))  # fmt: skip
        for parameter in made.parameters():
            parameter.data.normal_()
    return made.eval()


def batches(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 2, 6, 6, generator=generator) * (k + 1) for k in range(count)]


def test_statistics_are_the_averages_over_the_batches() -> None:
    net = network()
    assert recalibrate(net, batches()) == 2
    first = [net[0](images).detach().transpose(0, 1).flatten(1) for images in batches()]
    assert torch.allclose(net[1].running_mean, torch.stack([f.mean(1) for f in first]).mean(0), atol=1e-6)
    assert torch.allclose(net[1].running_var, torch.stack([f.var(1) for f in first]).mean(0), rtol=1e-5)
    assert int(net[1].num_batches_tracked) == 3


def test_nothing_but_statistics_changes() -> None:
    net = network()
    net[3].train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    recalibrate(net, batches())
    after = net.state_dict()
    assert list(before) == list(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{i}.{what}" for i in (1, 4) for what in ("running_mean", "running_var", "num_batches_tracked")}
    assert [module.training for module in net.modules()] == [False, False, False, False, True, False, False]
    assert (net[1].momentum, net[4].momentum) == (0.3, 0.1)
    assert all(p.grad is None for p in net.parameters())


def test_no_batches_is_an_error_that_changes_nothing() -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(PruningBenchError, match="there are no batches"):
        recalibrate(net, [])
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_network_without_batch_norm_is_left_alone() -> None:
    assert recalibrate(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)), []) == 0


def test_the_network_is_whole_again_when_a_batch_fails() -> None:
    net = network()
    with pytest.raises(RuntimeError):
        recalibrate(net, [torch.zeros(2, 7, 6, 6)])
    assert not any(module.training for module in net.modules())
    assert net[1].momentum == 0.3
    assert int(net[1].num_batches_tracked) == 0
    assert torch.equal(net[1].running_var, torch.ones(3))
