"""The Python interface on any network: exact, and nothing is left changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kit.toysuite import TOY_SUITE, toy_environment
from torch import nn

import pruningbench as pb
from pruningbench.errors import UsageError
from pruningbench.pruning.preservation import preserved


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    )


@pytest.mark.filterwarnings("ignore::pruningbench.errors.CollapseWarning")
@pytest.mark.parametrize("sparsity", [0, 0.0, 0.5, np.float32(0.9), 0.999])
@pytest.mark.parametrize("allocation", ["global", "uniform", "erk"])
def test_masks_of_any_network(sparsity: float, allocation: str) -> None:
    net = network()
    masks = pb.prune(net, "magnitude", sparsity, allocation=allocation)
    assert isinstance(masks, pb.Masks)
    assert list(masks) == ["0.weight", "4.weight"]
    assert masks["0.weight"].dtype == torch.bool
    assert masks.total - masks.kept == round(float(sparsity) * masks.total)


def test_global_magnitude_is_torchs() -> None:
    from torch.nn.utils import prune

    net, theirs = network(), network()
    masks = pb.prune(net, "magnitude", 0.7)
    prune.global_unstructured(
        [(theirs[0], "weight"), (theirs[4], "weight")], pruning_method=prune.L1Unstructured, amount=0.7
    )
    assert torch.equal(masks["0.weight"], theirs[0].weight_mask.bool())
    assert torch.equal(masks["4.weight"], theirs[4].weight_mask.bool())


@pytest.mark.parametrize("name", ["random", "magnitude", "snip"])
def test_the_network_and_the_random_state_are_left_alone(name: str) -> None:
    net = network().train()
    x, y = torch.randn(6, 3, 8, 8), torch.arange(6) % 5
    net(x).sum().backward()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    grads = [p.grad.clone() for p in net.parameters()]
    state = torch.get_rng_state()
    first = pb.prune(net, name, 0.5, batches=[(x, y)], seed=3)
    scores = pb.score(net, name, batches=[(x, y)], seed=3)
    assert pb.prune(net, name, 0.5, batches=[(x, y)], seed=3) == first
    assert set(scores) == set(first)
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, net.parameters(), strict=True))


def test_gradients_are_restored_even_when_the_block_accumulates() -> None:
    net = nn.Linear(3, 1)
    net(torch.ones(2, 3)).sum().backward()
    kept, grad = net.weight.grad, net.weight.grad.clone()
    with pytest.raises(ZeroDivisionError), preserved(net):
        net(torch.ones(2, 3)).sum().backward()
        net.weight.data.add_(1)
        raise ZeroDivisionError
    assert net.weight.grad is kept
    assert torch.equal(net.weight.grad, grad)


class Averages(nn.Linear):
    """Its forward pass puts other tensors in its buffers' places, and makes one that was not there."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("last", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.last = x.detach()
        return super().forward(x)


@pytest.mark.parametrize("name", ["snip", "obd", "wanda", "gradual"])
def test_buffers_that_the_forward_pass_replaces_are_put_back(name: str) -> None:
    net = nn.Sequential(Averages(), nn.ReLU(), nn.Linear(2, 2))
    mean = net[0].mean
    pb.prune(net, name, 0.5, [(torch.ones(4, 3), torch.arange(4) % 2)])
    assert net[0].mean is mean
    assert torch.equal(mean, torch.zeros(3))
    assert net[0].last is None


def test_labels_of_any_width_are_class_numbers() -> None:
    net, images, labels = network(), torch.randn(6, 3, 8, 8), torch.arange(6) % 5
    masks = pb.prune(net, "snip", 0.5, [(images, labels)])
    for dtype in (torch.int32, torch.int16, torch.uint8):
        assert pb.prune(net, "snip", 0.5, [(images, labels.to(dtype))]) == masks
    with pytest.raises(UsageError, match="class numbers"):
        pb.prune(net, "snip", 0.5, [(images, labels > 0)])


def test_seeds_matter_to_random_only() -> None:
    net = network()
    assert pb.prune(net, "random", 0.5, seed=1) != pb.prune(net, "random", 0.5, seed=2)
    assert pb.prune(net, "magnitude", 0.5, seed=1) == pb.prune(net, "magnitude", 0.5, seed=2)


@pytest.mark.parametrize(
    ("arguments", "fields", "words"),
    [
        (("magnitud", 0.5), {}, "did you mean 'magnitude'"),
        (("magnitude", 1.0), {}, "[0, 1)"),
        (("magnitude", True), {}, "[0, 1)"),
        (("magnitude", "half"), {}, "[0, 1)"),
        (("magnitude", 0.5), {"alocation": "erk"}, "did you mean 'allocation'"),
        (("snip", 0.5), {}, "needs data"),
        (("snip", 0.5), {"batches": []}, "needs data"),
        (("magnitude", 0.5), {"scope": pb.Scope(exclude=("conv1.*",))}, "matches no prunable parameter"),
    ],
)
def test_wrong_calls(arguments: tuple[str, float], fields: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        pb.prune(network(), *arguments, **fields)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_only_modules_are_pruned() -> None:
    with pytest.raises(UsageError, match=r"must be a torch\.nn\.Module, got str"):
        pb.prune("resnet18", "magnitude", 0.5)  # type: ignore[arg-type]


def test_run_and_results(tmp_path: Path) -> None:
    """In a process of its own, as a script would, with the plugin found through its entry point."""
    (tmp_path / "suite.yaml").write_text(TOY_SUITE)
    code = (
        "import pruningbench as pb, sys\n"
        "assert 'torch' not in sys.modules\n"
        "run = pb.run('suite.yaml', out='runs/first')\n"
        "assert run.ok and run.computed == 10, run\n"
        "table = pb.load_results('runs/first')\n"
        "assert table.equals(run.results())\n"
        "assert len(run.figures()) >= 1\n"
        "again = pb.run('suite.yaml', out='runs/first')\n"
        "assert (again.computed, again.resumed) == (0, 10)\n"
        "assert set(dir(pb)) >= set(pb.__all__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=toy_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout
