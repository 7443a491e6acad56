"""The pruner structured: whole channels, masked and really removed."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import pruningbench_structured
import pytest
import timm
import torch
from pruningbench_structured import SizeChange, compare_size, shrink
from pruningbench_structured.graph import channel_graph
from pruningbench_structured.order import nearest, removals
from pruningbench_structured.pruner import Structured
from pruningbench_structured.shrinking import removal_masks
from pruningbench_structured.size import measure_size
from pruningbench_timm.networks import small_resnet
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune as torch_prune

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Outline, PruningContext
from pruningbench.errors import PruningBenchError, UsageError
from pruningbench.plugins import Plugin, Registry
from pruningbench.plugins.loading import _register
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import Scope, prunable_parameters
from pruningbench.suite.binding import BindingError, bind
from pruningbench.suite.reference import describe_fields


class Grouped(nn.Module):
    """Convolutions in groups and depthwise, a squeeze-and-excite gate, concatenation and a bias without norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Hardswish())
        self.grouped = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1, groups=3), nn.BatchNorm2d(24), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), nn.BatchNorm2d(24))
        self.squeeze, self.excite = nn.Conv2d(24, 6, 1), nn.Conv2d(6, 24, 1)
        self.left, self.right = nn.Conv2d(24, 8, 1), nn.Conv2d(24, 10, 1)
        self.up = nn.ConvTranspose2d(18, 9, 2, stride=2)
        self.hidden, self.head = nn.Linear(9 * 64, 20), nn.Linear(20, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.silu(self.depthwise(self.grouped(self.stem(images))))
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = torch.relu(torch.cat([self.left(x), self.right(x)], 1))
        x = functional.adaptive_avg_pool2d(torch.relu(self.up(x)), 8)
        return self.head(torch.relu(self.hidden(x.flatten(1))))


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.GELU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 9, 24), nn.ReLU(), nn.Linear(24, 6),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "vgg": (vgg, (3, 12, 12), 0.5),
    "grouped": (Grouped, (3, 12, 12), 0.5),
    "digits-resnet": (lambda: small_resnet(6, (8, 12, 16, 24), 6), (1, 24, 24), 0.7),
    "resnet18": (lambda: timm.create_model("resnet18", num_classes=10), (3, 48, 48), 0.6),
    "vit": (
        lambda: timm.models.vision_transformer.VisionTransformer(
            img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=5
        ),
        (3, 16, 16),
        0.4,
    ),
}  # fmt: skip


def make(name: str) -> tuple[nn.Module, Tensor, float]:
    build, shape, sparsity = NETWORKS[name]
    with isolated_randomness("structured", name):
        network, images = build().eval(), torch.randn(4, *shape)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.running_mean, module.bias.data):
                    values.normal_()
                for values in (module.running_var, module.weight.data):
                    values.uniform_(0.5, 2)
    return network, images, sparsity


def context(network: nn.Module, images: Tensor, labels: Tensor | None = None, **given: Any) -> PruningContext:
    parameters = prunable_parameters(network, given.pop("scope", None))
    return PruningContext(network, parameters, batches=lambda: iter([(images, labels)]), **given)


@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_masked_and_the_smaller_network_compute_the_same(name: str, allocation: Any) -> None:
    network, images, sparsity = make(name)
    before = network(images)
    masks = Structured(allocation=allocation).prune(context(network, images), sparsity)
    masks.apply(network)
    masked = network(images)
    smaller = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), masked, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(masked, before, rtol=1e-2)
    # as near as whole channels allow, and every pruned weight is really gone
    assert abs(masks.sparsity - sparsity) < 0.03
    total, left = (sum(p.numel() for p in net.parameters()) for net in (network, smaller))
    silenced = sum(int((p == 0).sum()) for n, p in network.named_parameters() if n not in masks)
    assert total - left == masks.total - masks.kept + silenced - sum(
        int((p == 0).sum()) for n, p in smaller.named_parameters() if n not in masks
    )
    assert all(int((p == 0).sum()) == 0 for n, p in smaller.named_parameters() if n in masks)


def test_masks_are_whole_rows_and_columns_and_what_follows_a_removed_row_is_silent() -> None:
    network, images, _ = make("vgg")
    masks = Structured().prune(context(network, images), 0.5)
    for mask in masks.values():
        rows, columns = mask.flatten(1).any(1), mask.transpose(0, 1).flatten(1).any(1)
        assert torch.equal(mask, (rows[:, None] & columns).view(len(rows), -1, *[1] * (mask.ndim - 2)).expand_as(mask))
    first, second, hidden = (masks[f"{i}.weight"] for i in (0, 3, 8))
    gone = ~first.flatten(1).any(1)
    assert gone.any() and torch.equal(gone, ~second.transpose(0, 1).flatten(1).any(1))
    assert (network[0].bias[gone] == 0).all() and (network[0].bias[~gone] != 0).all()
    gone = ~second.flatten(1).any(1)
    assert (network[4].weight[gone] == 0).all() and (network[4].bias[gone] == 0).all()
    assert torch.equal(gone.repeat_interleave(9), ~hidden.any(0))
    assert masks["10.weight"].any(1).all()  # the outputs stay


@pytest.mark.parametrize("name", ["grouped", "digits-resnet"])
def test_the_number_of_channels_is_the_nearest_there_is(name: str) -> None:
    network, images, _ = make(name)
    job = context(network, images)
    graph = channel_graph(network, images, frozenset(job.parameters))
    with isolated_randomness("scores"):
        scores = [torch.rand(len(group.channels)) for group in graph.groups]
    sequence = removals(scores, "global", 0.2)
    counts = []
    for taken in range(len(sequence) + 1):
        gone = [torch.zeros(len(group.channels), dtype=torch.bool) for group in graph.groups]
        for number, channel in sequence[:taken]:
            gone[number][channel] = True
        counts.append(sum(int((~m).sum()) for m in removal_masks(graph, job.parameters, gone).values()))
    assert counts == sorted(counts)
    for asked in (0, 17, counts[-1] // 3, counts[-1] // 2, counts[-1]):
        removed, most = nearest(graph, job.parameters, sequence, asked)
        got = counts[sum(int(gone.sum()) for gone in removed)]
        assert most == counts[-1]
        assert abs(got - asked) == min(abs(count - asked) for count in counts)


def test_the_order_of_removal() -> None:
    scores = [torch.tensor([3.0, 1.0, 1.0, 2.0]), torch.tensor([0.5, 5.0])]
    # of equals the last goes first; a tenth of four channels is still one that stays
    assert removals(scores, "global", 0.1) == [(1, 0), (0, 2), (0, 1), (0, 3)]
    assert removals(scores, "uniform", 0.1) == [(0, 2), (1, 0), (0, 1), (0, 3)]
    assert removals(scores, "global", 0.5) == [(1, 0), (0, 2), (0, 1)]


def test_l2_ranks_the_channels_of_a_group_as_the_library_does() -> None:
    import torch_pruning

    network, images, _ = make("resnet18")
    graph = channel_graph(network, images, frozenset(prunable_parameters(network)))
    from pruningbench_structured.importance import group_norms

    mine = dict(
        zip([g.name for g in graph.groups], group_norms(graph, dict(graph.network.named_parameters())), strict=True)
    )
    peer = torch_pruning.importance.GroupMagnitudeImportance(p=2, target_types=[nn.Conv2d, nn.Linear], normalizer=None)
    names = {module: name for name, module in graph.network.named_modules()}
    compared = 0
    for group in graph.dependencies.get_all_groups():
        name = names[group[0].dep.target.module]
        if name in mine:
            theirs = peer(group)
            assert torch.equal(mine[name].argsort(), theirs.argsort())
            compared += 1
    assert compared == len(graph.groups) == 12


def test_taylor_is_its_definition_and_needs_labels() -> None:
    network, images, _ = make("vgg")
    network.double()
    images, labels = images.double(), torch.tensor([0, 3, 1, 5])
    job = context(network, images, labels)
    graph = channel_graph(network, images, frozenset(job.parameters))
    from pruningbench_structured.importance import taylor

    network.requires_grad_(True)
    functional.cross_entropy(network(images[:3]), labels[:3]).backward()
    products = {name: (p.grad * p).detach().square() for name, p in network.named_parameters()}
    network.zero_grad()
    found = dict(zip([g.name for g in graph.groups], taylor(graph, job, 3), strict=True))
    expected = products["0.weight"].sum((1, 2, 3)) + products["3.weight"].sum((0, 2, 3))
    torch.testing.assert_close(found["0"], expected, rtol=1e-10, atol=0)
    expected = products["3.weight"].sum((1, 2, 3)) + products["8.weight"].sum(0).view(16, 9).sum(1)
    torch.testing.assert_close(found["3"], expected, rtol=1e-10, atol=0)
    assert all(p.grad is None for p in network.parameters())
    masks = Structured(importance="taylor").prune(job, 0.4)
    assert abs(masks.sparsity - 0.4) < 0.02
    with pytest.raises(PruningBenchError, match="needs labels"):
        Structured(importance="taylor").prune(context(network, images), 0.4)


def test_random_depends_on_the_seed_only() -> None:
    found = [Structured(importance="random").prune(context(*make("grouped")[:2], seed=seed), 0.5) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert Structured(importance="random").seeded is True and Structured().seeded is False


def test_after_training_the_smaller_network_is_still_the_same() -> None:
    network, images, sparsity = make("digits-resnet")
    masks = Structured().prune(context(network, images), sparsity)
    labels = torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    network.train()
    with masks.kept_during(network, optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    network.eval()
    smaller = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), network(images), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in smaller.parameters()) < 0.4 * sum(p.numel() for p in network.parameters())


def test_shrinking_keeps_what_is_only_partly_pruned() -> None:
    network, images, _ = make("vgg")
    parameters = prunable_parameters(network)
    with isolated_randomness("unstructured"):
        masks = Masks({name: torch.rand(p.shape) > 0.5 for name, p in parameters.items()})
    shapes = [p.shape for p in shrink(network, masks, images).parameters()]
    assert shapes == [p.shape for p in network.parameters()]
    everything = Masks({name: torch.zeros(p.shape, dtype=torch.bool) for name, p in parameters.items()})
    smallest = shrink(network, everything, images)
    assert [len(smallest[i].weight) for i in (0, 3, 8, 10)] == [1, 1, 1, 6]


def test_sizes_are_measured_and_masks_make_nothing_smaller() -> None:
    network, images, sparsity = make("resnet18")
    dense = measure_size(network, images, runs=1)
    assert dense.parameters == sum(p.numel() for p in network.parameters())
    alone = nn.Conv2d(3, 8, 3, padding=1)
    assert measure_size(alone, images, runs=1).flops == 2 * alone.weight.numel() * 48 * 48
    masks = Structured().prune(context(network, images), sparsity)
    masks.apply(network)
    masked = measure_size(network, images, runs=1)
    assert (masked.parameters, masked.flops, masked.batch_size) == (dense.parameters, dense.flops, 4)
    change = compare_size(network, masks, images, runs=2)
    assert isinstance(change, SizeChange) and change.dense.parameters == dense.parameters
    assert change.smaller.parameters < 0.45 * dense.parameters and change.smaller.flops < dense.flops
    assert change.speedup == change.dense.latency_ms / change.smaller.latency_ms
    assert f"parameters {dense.parameters:,} -> {change.smaller.parameters:,}; FLOPs " in str(change)


def test_the_scope_is_kept_and_out_of_reach_is_refused() -> None:
    network, images, _ = make("vit")
    masks = Structured().prune(context(network, images), 0.4)
    touched = {name for name, mask in masks.items() if not mask.all()}
    assert touched == {f"blocks.{i}.mlp.fc{j}.weight" for i in (0, 1) for j in (1, 2)}
    reasons = masks.provenance["left_out"]
    assert "LayerNorm" in reasons["blocks.1.mlp.fc2"] and "unbind" in reasons["blocks.0.attn.qkv"]
    with pytest.raises(
        UsageError, match=r"reaches at most sparsity 0.\d+ on this network, but 0.9 was requested: request less"
    ):
        Structured().prune(context(network, images), 0.9)
    network, images, _ = make("vgg")
    masks = Structured().prune(context(network, images, scope=Scope(exclude=("3.weight",))), 0.3)
    assert {name for name, mask in masks.items() if not mask.all()} == {"8.weight", "10.weight"}
    assert masks.provenance["left_out"]["0"] == "3.weight is outside the scope"


class HardCoded(nn.Module):
    """Its forward pass says how many channels there are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).mean((2, 3)).view(-1, 8))


class Averaging(HardCoded):
    """It averages over channels, which zeros take part in."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        return self.head((x - x.mean(1, keepdim=True)).mean((2, 3)))


@pytest.mark.parametrize(("network", "message"), [(HardCoded, "does not run with fewer"), (Averaging, "mix channels")])
def test_what_cannot_be_removed_is_refused_and_the_network_left_as_it_was(network: Any, message: str) -> None:
    with isolated_randomness("refused"):
        built, images = network(), torch.randn(2, 3, 4, 4)
    before = {name: value.clone() for name, value in built.state_dict().items()}
    with pytest.raises(PruningBenchError, match=message):
        Structured().prune(context(built, images), 0.5)
    assert all(torch.equal(before[name], value) for name, value in built.state_dict().items())
    with pytest.raises(UsageError, match=r"reaches at most sparsity 0.000 .* the network's output"):
        Structured().prune(context(nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4)), 0.5)
    with pytest.raises(PruningBenchError, match="got no images"):
        Structured().prune(PruningContext(built, prunable_parameters(built)), 0.5)


def test_weights_that_are_computed_are_left_out_or_refused() -> None:
    first, images = nn.Linear(8, 6), torch.randn(2, 8)
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(first), nn.ReLU(), nn.Linear(6, 2))
    graph = channel_graph(network, images, prunable_parameters(network, Scope(exclude=("0.weight",))))
    assert graph.groups == ()
    assert "are computed from other parameters" in graph.skipped["0"]
    network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    torch_prune.l1_unstructured(network[0], "weight", 0.5)
    with pytest.raises(PruningBenchError, match="cannot copy this Sequential"):
        channel_graph(network, images, prunable_parameters(network))


def test_the_network_keeps_flags_and_gradients() -> None:
    network, images, sparsity = make("digits-resnet")
    network.train()
    frozen = next(network.parameters()).requires_grad_(False)
    random_state = torch.get_rng_state()
    masks = Structured().prune(context(network, images), sparsity)
    assert all(module.training for module in network.modules())
    assert not frozen.requires_grad and all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks for m in network.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not next(shrink(network, masks, images).parameters()).requires_grad


def registry() -> Registry:
    found = Registry()

    class Point:
        @staticmethod
        def load() -> Any:
            return pruningbench_structured

    _register(found, Plugin("structured", "pruningbench", "0"), Point())  # type: ignore[arg-type]
    return found


def test_the_cost_is_one_traced_image_and_gradients_for_taylor() -> None:
    outline = Outline({"w": (8, 16)}, state_bytes=512, image_bytes=48, activation_bytes=100, samples=50)
    plain, taylor = Structured().cost(outline), Structured(importance="taylor", samples=20).cost(outline)
    assert (plain.backward, plain.samples, plain.memory) == (0, 1, 4 * 512 + 22 * 128 + 2 * 148)
    assert (taylor.backward, taylor.samples) == (1, 20) and taylor.memory > plain.memory


def test_without_the_library_it_is_listed_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    found = registry()
    entry = found.entry("pruner", "structured")
    assert not found.broken and entry.summary().startswith("Structured pruning:")
    assert [f["name"] for f in describe_fields(entry.load())] == [f.name for f in dataclasses.fields(Structured)]
    with pytest.raises(BindingError, match=r"pip install 'pruningbench\[structured\]'$"):
        bind(found, "pruner", "structured")
    network, images, _ = make("vgg")
    for use in (
        lambda: Structured().prune(context(network, images), 0.5),
        lambda: shrink(network, Masks.ones(prunable_parameters(network)), images),
    ):
        with pytest.raises(UsageError, match=r"pip install 'pruningbench\[structured\]'$"):
            use()


@pytest.mark.parametrize(("fields", "message"), [({"floor": 1.0}, "floor"), ({"samples": 0}, "samples")])
def test_fields_out_of_range(fields: Any, message: str) -> None:
    with pytest.raises(BindingError, match=message):
        bind(registry(), "pruner", {"use": "structured", **fields})
