"""Counted and measured costs: closed forms, torch's own counter, and what is only masked."""

from __future__ import annotations

import pytest
import torch
from kit.transfer import blobs, context, tiny
from pruningbench_transfer import costs, count_macs
from pruningbench_transfer.efficiency import Efficiency, only_masked
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruningbench.contract import ArraySamples, Preprocessing, ResourceUse, VisionModel
from pruningbench.contract.statistics import bootstrap
from pruningbench.errors import PruningBenchError
from pruningbench.pruning.timing import measured_seconds, peak_memory

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def zero_half(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim >= 2:
                parameter.fill_(1.0).view(-1)[::2] = 0


def test_macs_of_a_convolution_and_a_linear_map_are_the_closed_form() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Flatten(), nn.Linear(6 * 16, 5))
    zero_half(network)
    macs = count_macs(network, lambda: network(torch.rand(1, 4, 8, 8)))
    assert macs.dense == 16 * 6 * (4 // 2) * 9 + 96 * 5
    assert macs.effective == macs.dense / 2
    two = count_macs(network, lambda: network(torch.rand(2, 4, 8, 8)))
    assert two.dense == 2 * macs.dense


def test_density_is_taken_of_each_layer() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(2 * 36, 4, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(1.0)[0] = 0  # half of the many-times used weights
        network[2].weight.fill_(1.0)
    macs = count_macs(network, lambda: network(torch.rand(1, 1, 6, 6)))
    assert (macs.dense, macs.effective) == (36 * 18 + 288, 36 * 9 + 288)


class Attending(nn.Module):
    """A transformer layer as torch has it, with its fused projection, and products of a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.bare = nn.Parameter(torch.ones(16, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.layer(tokens) @ self.bare
        return out


def test_attention_counts_its_products_in_full_and_its_weights_by_density() -> None:
    network = Attending().eval()
    zero_half(network)
    tokens = torch.rand(1, 5, 16)
    macs = count_macs(network, lambda: network(tokens))
    weights = 5 * (3 * 16 * 16 + 16 * 16 + 2 * 16 * 32 + 16 * 3)
    products = 2 * 5 * 5 * 16
    assert macs.dense == weights + products
    assert macs.effective == weights / 2 + products
    with torch.no_grad(), FlopCounterMode(display=False) as peer:
        network.train()(tokens)  # in eval mode a fused kernel hides all products from it
    assert macs.dense == peer.get_total_flops() / 2
    assert torch.backends.mha.get_fastpath_enabled()


def test_activations_that_are_zero_are_no_pruned_weights() -> None:
    network = nn.Linear(8, 3)
    assert count_macs(network, lambda: network(torch.zeros(1, 8))).effective == 24


def run_task(model: VisionModel, dense: VisionModel, **fields: int) -> ResourceUse:
    lent = context(d=blobs([0, 1], ("p0", "p1")))
    lent.as_loaded, lent.dense = dense, None
    ((variant, outputs),) = Efficiency(data="d", **{"repeats": 4, "warmup": 1, **fields}).run(model, lent)
    assert variant == ""
    return outputs


def test_what_is_only_masked_is_never_faster() -> None:
    dense, pruned = tiny(("p0", "p1")), tiny(("p0", "p1"))
    zero_half(pruned.network)
    outputs = run_task(pruned, dense, images=3)
    assert only_masked(pruned, dense)
    assert (outputs.parameters, outputs.nonzero) == (8, 4)
    assert (outputs.dense_macs, outputs.effective_macs, outputs.batch_size) == (8, 4, 3)
    assert outputs.seconds.shape == (4,) and (outputs.seconds > 0).all()
    assert costs.MeasuredSpeedup().values(outputs).tolist() == [1.0] * 4
    # the differences between such networks are noise: nothing may rank them by it
    assert costs.MeasuredLatency().higher_is_better is None
    assert costs.EffectiveFlops().values(outputs).tolist() == [8.0]
    assert costs.DenseFlops().values(outputs).tolist() == [16.0]


def test_what_is_smaller_is_timed_against_the_dense_network() -> None:
    dense, small = tiny(("p0", "p1", "p2")), tiny(("p0",))
    assert not only_masked(small, dense)
    outputs = run_task(small, dense)
    assert outputs.seconds is not outputs.dense_seconds and outputs.dense_seconds.shape == (4,)
    assert (outputs.parameters, outputs.dense_macs) == (4, 4)


def test_timings_go_in_turns_and_leave_the_warm_up_out() -> None:
    order: list[str] = []
    device = torch.device("cpu")
    seconds = measured_seconds([lambda: order.append("a"), lambda: order.append("b")], device, repeats=3, warmup=2)
    assert order == ["a", "b"] * 5
    assert [len(s) for s in seconds] == [3, 3] and all((s > 0).all() for s in seconds)
    assert peak_memory(nn.Linear(1, 1), lambda: None, device) is None


def test_metrics_of_costs() -> None:
    outputs = ResourceUse(10, 4, 100, 40.0, torch.tensor([0.2, 0.1, 0.4]), torch.tensor([0.4, 0.4, 0.4]), 2, 2**21)
    values = {m: m.values(outputs).tolist() for m in (costs.Parameters(), costs.NonzeroParameters())}
    assert list(values.values()) == [[10.0], [4.0]]
    latency, speedup = costs.MeasuredLatency(), costs.MeasuredSpeedup()
    assert latency.values(outputs).tolist() == pytest.approx([100.0, 50.0, 200.0])
    assert bootstrap(latency.values(outputs).numpy(), latency.aggregate).value == pytest.approx(100)
    assert bootstrap(speedup.values(outputs).numpy(), speedup.aggregate).value == pytest.approx(2)
    memory = costs.MeasuredPeakMemory()
    assert memory.applies(outputs) and memory.values(outputs).tolist() == [2.0]
    assert not memory.applies(ResourceUse(1, 1, 1, 1.0, torch.ones(1), torch.ones(1), 1))
    assert not any(m.deterministic for m in (latency, speedup, memory)) and costs.DenseFlops().deterministic


def test_efficiency_refuses() -> None:
    empty = ArraySamples(torch.zeros(0, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(PruningBenchError, match="at least one image"):
        list(Efficiency(data="d").run(tiny(("p0",)), context(d=empty)))
    for wrong in ({"images": 0}, {"repeats": 0}, {"warmup": -1}):
        assert Efficiency(data="d", **wrong).problem()
    assert Efficiency(data="d").problem() is None


@pytest.mark.parametrize("name", DEVICES)
def test_measured_on_every_device_there_is(name: str) -> None:
    device = torch.device(name)
    network = nn.Linear(1024, 1024).to(device)
    batch = torch.ones(256, 1024, device=device)
    with torch.inference_mode():
        (seconds,) = measured_seconds([lambda: network(batch)], device, repeats=5, warmup=2)
        peak = peak_memory(network, lambda: network(batch), device)
    assert (seconds > 0).all()
    assert peak is None if name == "cpu" else peak is not None and peak >= 4 * (1024 * 1025 + 256 * 1024)
    assert only_masked(*[VisionModel(network, Preprocessing((0.0,), (1.0,)))] * 2)
