"""The pruners obd, taylor, block-fisher, wanda, obs, cap, layer-obs and sparse-swaps on networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pruningbench_hessian
import pytest
import torch
from pruningbench_hessian.fisher import BlockCurvature
from pruningbench_hessian.inputs import for_each_input
from pruningbench_hessian.scores import BlockFisher, Obd, Taylor, Wanda
from pruningbench_hessian.swapping import SparseSwaps
from pruningbench_hessian.updates import Cap, LayerObs, Obs
from torch import nn
from torch.nn import functional

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Pruner, PruningContext
from pruningbench.errors import PruningBenchError
from pruningbench.plugins import Plugin, Registry
from pruningbench.plugins.loading import _register
from pruningbench.pruning.scope import prunable_parameters
from pruningbench.pruning.weight_inputs import im2col
from pruningbench.suite.binding import BindingError, bind

DATA = Path(__file__).parent / "data/hessian"
BLOCKS = {"block_size": 16, "samples": 12}
FISHER = [Obd, Taylor, BlockFisher, Obs, Cap]
PRUNERS: dict[str, Callable[[], Pruner]] = {
    "obd": lambda: Obd(samples=12),
    "taylor": lambda: Taylor(samples=12),
    "block-fisher": lambda: BlockFisher(**BLOCKS),
    "wanda": lambda: Wanda(samples=12),
    "wanda-global": lambda: Wanda(samples=12, group="global"),
    "wanda-layer": lambda: Wanda(samples=12, group="layer", allocation="erk", conv_norm="channels"),
    "obs": lambda: Obs(**BLOCKS),
    "cap": lambda: Cap(**BLOCKS),
    "cap-cumulative": lambda: Cap(merge="cumulative", allocation="uniform", **BLOCKS),
    "layer-obs": lambda: LayerObs(samples=12),
    "sparse-swaps": lambda: SparseSwaps(samples=12),
    "layer-obc": lambda: LayerObs(samples=12, method="obc", rerun=False),
}


class Attention(nn.Module):
    """A convolution into tokens, both spellings of fused attention, and a classifier of tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.qkv = nn.Linear(8, 24)
        self.up = nn.Linear(8, 8)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.up.weight
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.patches(images)).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        q, k, v = functional.linear(tokens, self.qkv.weight).chunk(3, -1)
        tokens = tokens + functional.scaled_dot_product_attention(q, k, v)
        tokens = self.again(torch.tanh(self.up(tokens)))
        return self.head(tokens.mean(1))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2, groups=4, dilation=2, padding="valid"),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 4),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {"convolutions": convolutions, "attention": Attention}


def make(name: str) -> nn.Module:
    with isolated_randomness("network", name):
        return NETWORKS[name]().eval()


def data(labels: bool = True, size: int = 12) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    generator = torch.Generator().manual_seed(5)
    images = [torch.randn(size // 2, 3, 16, 16, generator=generator) for _ in range(2)]
    return [(x, torch.randint(4, (len(x),), generator=generator) if labels else None) for x in images]


def context(network: nn.Module, batches: list[Any] | None = None) -> PruningContext:
    given = data() if batches is None else batches
    return PruningContext(network, prunable_parameters(network), 0, lambda: iter(given))


def toy() -> tuple[PruningContext, Any]:
    golden = np.load(DATA / "toy_conv.npz")
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1, bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5, bias=False),
    ).double()  # fmt: skip
    with torch.no_grad():
        for i in (0, 2, 6):
            network[i].weight.copy_(torch.from_numpy(golden[f"w{i}"]))
    batch = (torch.from_numpy(golden["x"]), torch.from_numpy(golden["y"]))
    return context(network, [tuple(t[:20] for t in batch), tuple(t[20:] for t in batch)]), golden


def flat(values: Any) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in values.values()])


@pytest.mark.parametrize("gradients", ["loop", "vmap"])
def test_obd_and_taylor_equal_the_reference(gradients: Any) -> None:
    job, golden = toy()
    scores = flat(Obd(gradients=gradients).score(job))
    np.testing.assert_allclose(scores, golden["obd_saliency"], rtol=1e-8, atol=1e-16)
    np.testing.assert_allclose(flat(Taylor(gradients=gradients).score(job)), 2 * scores, rtol=1e-12)
    weights = flat(job.parameters)
    diagonal = BlockFisher(block_size=1, damping=1e-3, damping_unit="absolute", gradients=gradients).score(job)
    expected = weights.square() * (torch.from_numpy(golden["fisher_diag"]) + 1e-3) / 2
    np.testing.assert_allclose(flat(diagonal), expected, rtol=1e-8)


@pytest.mark.parametrize("network", NETWORKS)
def test_loop_and_vmap_agree(network: str) -> None:
    loop, vmap = (flat(Obd(gradients=g).score(context(make(network)))) for g in ("loop", "vmap"))  # type: ignore[arg-type]
    torch.testing.assert_close(loop, vmap, rtol=1e-3, atol=1e-5 * float(loop.max()))


def test_taylor_reductions_differ_as_they_should() -> None:
    job, _ = toy()
    means = [flat(Taylor(reduction=r).score(job)) for r in ("abs-mean", "mean-abs", "mean-square")]
    assert bool((means[0] <= means[1] + 1e-15).all())
    assert bool((means[1].square() <= means[2] + 1e-15).all())
    images, labels = (torch.cat(parts) for parts in zip(*job.batches(), strict=True))  # type: ignore[misc]
    loss = functional.cross_entropy(job.network(images), labels)
    gradients = torch.autograd.grad(loss, list(job.parameters.values()))
    expected = torch.cat([(g * p).flatten() for g, p in zip(gradients, job.parameters.values(), strict=True)])
    torch.testing.assert_close(means[0], expected.detach().abs())


def test_true_fisher_draws_the_models_labels() -> None:
    job, _ = toy()
    with torch.no_grad():
        job.network[6].weight.mul_(1e4)  # type: ignore[operator,index]
    images = [batch for batch, _ in job.batches()]  # type: ignore[misc]
    certain = [(x, job.network(x).argmax(1)) for x in images]
    unlabelled = context(job.network, [(x, None) for x in images])
    assert torch.equal(flat(Obd(fisher="true").score(unlabelled)), flat(Obd().score(context(job.network, certain))))
    job, _ = toy()
    first = flat(Obd(fisher="true").score(job))
    assert torch.equal(first, flat(Obd(fisher="true").score(job)))
    assert not torch.equal(first, flat(Obd(fisher="true", draw_seed=1).score(job)))


def test_gram_fisher_of_a_linear_map_is_its_features_gram_matrix() -> None:
    generator = torch.Generator().manual_seed(1)
    network = nn.Linear(3, 2, bias=False).double()
    images = torch.randn(6000, 3, generator=generator, dtype=torch.float64)
    job = context(network, [(images, None)])
    scores = Obd(fisher="gram", samples=6000, gradients="vmap").score(job)["weight"]
    weights, features = network.weight.detach(), network(images).detach()
    # g_ij = v_i x_j with v ~ N(0, G): E g_ij^2 = G_ii E x_j^2
    expected = weights.square() * features.square().mean(0)[:, None] * images.square().mean(0) / 2
    torch.testing.assert_close(scores, expected, rtol=0.1, atol=0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pruner", PRUNERS)
def test_exactly_k_and_only_the_prunable_weights_change(pruner: str, network: str) -> None:
    net = make(network)
    before = copy.deepcopy(net.state_dict())
    job = context(net)
    masks = PRUNERS[pruner]().prune(job, 0.7)
    assert masks.total - masks.kept == round(0.7 * masks.total)
    assert list(masks) == list(job.parameters)
    updates = pruner in ("obs", "cap", "cap-cumulative", "layer-obs", "layer-obc")
    moved = 0
    for name, value in net.state_dict().items():
        if updates and name in masks:
            assert bool((value[~masks[name]] == 0).all())
            moved += int((value != before[name])[masks[name]].sum())
        elif not (updates and name == "again.weight"):  # tied to up.weight
            assert torch.equal(value, before[name])
    assert (moved > 0) == updates
    again = make(network)
    assert PRUNERS[pruner]().prune(context(again), 0.7) == masks
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize("pruner", PRUNERS)
def test_exactly_k_when_all_scores_tie(pruner: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 7, bias=False), nn.Linear(7, 4, bias=False))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    masks = PRUNERS[pruner]().prune(context(net), 0.31)
    assert masks.total - masks.kept == round(0.31 * masks.total)


def state_of(network: nn.Module) -> list[Any]:
    modules = list(network.modules())
    return [
        [(p.requires_grad, p.grad) for p in network.parameters()],
        [m.training for m in modules],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules],
        torch.get_rng_state().tolist(),
    ]


class Failing(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > 2:
            raise RuntimeError("broken")
        return self.inner(images)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_the_network_is_left_as_found_also_when_it_raises(pruner: str) -> None:
    for fails in (False, True):
        net: nn.Module = Failing(make("convolutions")) if fails else make("convolutions")
        net.train()
        first = next(net.parameters())
        first.requires_grad_(False)
        first.grad = torch.ones_like(first)
        before, weights = state_of(net), copy.deepcopy(net.state_dict())
        if fails:
            with pytest.raises(RuntimeError, match="broken"):
                PRUNERS[pruner]().prune(context(net, data() * 2), 0.5)
                PRUNERS[pruner]().prune(context(net, data() * 2), 0.5)
        else:
            PRUNERS[pruner]().prune(context(net), 0.5)
        assert state_of(net) == before
        buffers = dict(net.named_buffers())
        for name, value in net.state_dict().items():
            if name in buffers or (fails and pruner in ("layer-obs", "sparse-swaps")):
                assert torch.equal(value, weights[name])


@pytest.mark.parametrize("pruner", [Obs, Cap])
def test_streaming_by_layer_changes_nothing(pruner: Any) -> None:
    whole, streamed = make("convolutions"), make("convolutions")
    masks = pruner(**BLOCKS).prune(context(whole), 0.6)
    assert pruner(memory_gb=1.1e-5, **BLOCKS).prune(context(streamed), 0.6) == masks
    for a, b in zip(whole.parameters(), streamed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    job = context(make("convolutions"))
    for memory, passes in ((1.0, 1), (1.1e-5, 6)):
        curvature = BlockCurvature(
            job, Obs(**BLOCKS).sampling(), block_size=16, damping=0.1, relative=True, memory_gb=memory
        )
        assert [name for name, _ in curvature] == [name for name, _ in curvature] == list(job.parameters)
        assert curvature.passes == passes


def test_the_update_lowers_the_loss_of_the_quadratics_network() -> None:
    """A linear map's own quadratic: layer-obs must leave a smaller error than its mask alone."""
    network = nn.Linear(20, 6, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.randn(6, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    mixing = torch.randn(20, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    images = torch.randn(100, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64) @ mixing
    dense, expected = network.weight.detach().clone(), network(images).detach()
    for method in ("sparsegpt", "obc"):
        with torch.no_grad():
            network.weight.copy_(dense)
        mask = LayerObs(method=method).prune(context(network, [(images, None)]), 0.5)["weight"]
        updated = float((network(images).detach() - expected).square().sum())
        alone = float((images @ (dense * mask).T - expected).square().sum())
        wanda = Wanda().prune(context(nn.Linear(20, 6), [(images.float(), None)]), 0.5)
        assert wanda.kept == mask.sum()
        assert updated < 0.8 * alone


def test_wanda_and_layer_obs_equal_the_reference_on_the_inputs_of_a_classifier() -> None:
    golden = {key: torch.from_numpy(value) for key, value in np.load(DATA / "linear.npz").items()}
    inputs = torch.linalg.cholesky(golden["hessian"] / 2).T  # 2 X X' is the reference's H
    network = nn.Linear(64, 10).double()
    with torch.no_grad():
        network.weight.copy_(golden["weights"])
    job = context(network, [(inputs[:30], None), (inputs[30:], None)])
    scores = Wanda().score(job)
    torch.testing.assert_close(scores["weight"], golden["wanda"], rtol=1e-9, atol=0)
    assert torch.equal(Wanda().threshold(scores, 0.5)["weight"], golden["wanda_mask"])
    masks = LayerObs().prune(job, 0.5)
    assert torch.equal(masks["weight"], golden["sparsegpt_mask"])
    torch.testing.assert_close(network.weight.detach(), golden["sparsegpt"], rtol=1e-8, atol=1e-10)


def test_im2col_is_unfold_with_groups_strides_and_same_padding() -> None:
    images = torch.randn(5, 4, 9, 7, generator=torch.Generator().manual_seed(0))
    found = torch.cat(list(im2col(images, (3, 2), (2, 1), (1, 2), (1, 2), 2)), 2)
    unfolded = functional.unfold(images, (3, 2), dilation=(1, 2), padding=(1, 2), stride=(2, 1))
    assert torch.equal(found, unfolded.transpose(0, 1).reshape(2, 12, -1))
    conv = nn.Conv1d(4, 6, 4, padding="same", groups=2)
    rows = torch.cat(list(im2col(images[..., 0], (4,), (1,), "same", (1,), 2)), 2)
    out = (conv.weight.view(2, 3, 8) @ rows).view(6, 5, 9).transpose(0, 1) + conv.bias[:, None]  # type: ignore[index]
    torch.testing.assert_close(out, conv(images[..., 0]))


def test_inputs_of_attention_are_what_its_projections_meet() -> None:
    net = make("attention")
    met: dict[str, list[Any]] = {}
    job = context(net, data(labels=False)[:1])
    for_each_input(job, list(job.parameters), "x", 6, lambda n, f, g, c: met.setdefault(n, []).append((f, g, c)))
    assert [(first, groups) for first, groups, _ in met["attention.in_proj_weight"]] == [(0, 3), (1, 3), (2, 3)]
    tokens = met["attention.in_proj_weight"][0][2][0].T.view(16, 6, 8).transpose(0, 1)
    before = met["attention.out_proj.weight"][0][2][0].T
    projected = functional.linear(before, net.attention.out_proj.weight, net.attention.out_proj.bias)  # type: ignore[union-attr]
    expected = net.attention(tokens, tokens, tokens)[0]  # type: ignore[operator]
    torch.testing.assert_close(projected.view(16, 6, 8).transpose(0, 1), expected)
    assert met["qkv.weight"][0][2].shape == (1, 8, 96)
    assert len(met["up.weight"]) == 2  # tied: used twice


@pytest.mark.parametrize("kind", FISHER)
def test_wrong_data_is_said_with_the_pruners_name(kind: Any) -> None:
    net, name = make("convolutions"), kind.registered
    with pytest.raises(PruningBenchError, match=f"'{name}' needs labels, but got none.*'true'.*'gram'"):
        kind().prune(context(net, data(labels=False)), 0.5)
    with pytest.raises(PruningBenchError, match=f"'{name}' needs data"):
        kind().prune(PruningContext(net, prunable_parameters(net)), 0.5)
    with pytest.raises(PruningBenchError, match=f"'{name}' needs data"):
        kind().prune(context(net, []), 0.5)
    wrong = [(x, y + 4) for x, y in data()]
    with pytest.raises(PruningBenchError, match="labels run from . to 7, but the network has 4 outputs"):
        kind().prune(context(net, wrong), 0.5)
    with pytest.raises(PruningBenchError, match=r"'0.weight' are NaN or infinite|'8.weight' are NaN or infinite"):
        kind().prune(context(net, [(x * float("nan"), y) for x, y in data()]), 0.5)
    assert kind(fisher="gram", samples=4).prune(context(net, data(labels=False)), 0.5).kept


def test_layers_that_cannot_be_scored_are_said() -> None:
    net = make("convolutions")
    with pytest.raises(PruningBenchError, match=r"'0.weight' alone needs .* raise memory_gb"):
        BlockFisher(memory_gb=1e-6).score(context(net))
    unused = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    unused.register_module("extra", nn.Linear(2, 2))
    unused.forward = lambda x: unused[1](unused[0](x))  # type: ignore[method-assign]
    with pytest.raises(PruningBenchError, match=r"'wanda': 'extra.weight' is used by no linear map"):
        Wanda().score(context(unused))
    assert bool((Obd().score(context(unused))["extra.weight"] == 0).all())
    assert "running statistics" in str(Obd().refuses(nn.BatchNorm2d(3, track_running_stats=False)))
    assert "ConvTranspose2d" in str(Wanda().refuses(nn.Sequential(nn.ConvTranspose2d(3, 3, 2))))
    assert all(make_pruner().refuses(net) is None for make_pruner in PRUNERS.values())


def registry() -> Registry:
    found = Registry()

    class Point:
        @staticmethod
        def load() -> Any:
            return pruningbench_hessian

    _register(found, Plugin("hessian", "pruningbench", "0"), Point())  # type: ignore[arg-type]
    return found


def test_registered_with_their_contract() -> None:
    found = registry()
    assert not found.broken
    names = [
        "block-fisher",
        "block-hessian",
        "cap",
        "layer-obs",
        "oba",
        "obd",
        "obs",
        "sparse-swaps",
        "taylor",
        "wanda",
    ]
    assert sorted(found.names("pruner")) == names
    for name in names:
        kind: Any = found.entry("pruner", name).load()
        assert (kind.registered, kind.needs_data, kind.seeded) == (name, True, False)
    uses = [bind(found, "pruner", {"use": "obd", "allocation": a}) for a in ("global", "erk")]
    assert len({str(use.identity(without="scores")) for use in uses}) == 1
    for field, value in (("block_size", 0), ("damping", 0.0), ("samples", 0), ("memory_gb", 0.0)):
        with pytest.raises(BindingError, match=field):
            bind(found, "pruner", {"use": "cap", field: value})
    with pytest.raises(BindingError, match="columns must be at least 1"):
        bind(found, "pruner", {"use": "layer-obs", "columns": 0})
