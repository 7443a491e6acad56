"""The pruner structured: attention heads, and ranking within isomorphic groups."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import networkx
import pytest
import timm
import torch
import torch_pruning
from pruningbench_structured import compare_size, shrink
from pruningbench_structured.graph import channel_graph
from pruningbench_structured.groups import ChannelGraph, Structure
from pruningbench_structured.importance import group_norms
from pruningbench_structured.order import removals
from pruningbench_structured.pruner import Structured
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import pruningbench as pb
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import PruningContext
from pruningbench.errors import UsageError
from pruningbench.plugins import load_registry
from pruningbench.pruning.masks import Masks
from pruningbench.pruning.scope import Scope, prunable_parameters
from pruningbench.suite.binding import bind


def vit(**given: Any) -> nn.Module:
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 4}
    return VisionTransformer(num_classes=5, **{**sizes, **given})


def swin() -> nn.Module:
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 2, "embed_dim": 16, "window_size": 4}
    return SwinTransformer(depths=(2, 2), num_heads=(2, 4), num_classes=5, **sizes)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": vit,
    "vit-normed": lambda: vit(qk_norm=True, qkv_bias=False, init_values=0.1, class_token=False, global_pool="avg"),
    "swin": swin,
    "resnet18": lambda: timm.create_model("resnet18", num_classes=10),
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network whose layers and channels differ in scale, and whose biases are not zero; and images."""
    with isolated_randomness("heads", name):
        network = NETWORKS[name]().eval()
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.data *= torch.empty(len(parameter), *[1] * (parameter.ndim - 1)).uniform_(0.5, 2)
            else:
                parameter.data += 0.3 * torch.randn(parameter.shape)
        side = 16 if name != "resnet18" else 48
        return network, torch.randn(3, 3, side, side)


def context(network: nn.Module, images: Tensor, scope: Scope | None = None) -> PruningContext:
    return PruningContext(network, prunable_parameters(network, scope), batches=lambda: iter([(images, None)]))


def graph_of(network: nn.Module, images: Tensor) -> ChannelGraph:
    return channel_graph(network, images, frozenset(prunable_parameters(network)), heads=True)


def chosen_by_peer(network: nn.Module, images: Tensor, share: float) -> dict[str, set[int]]:
    """Return what Torch-Pruning's isomorphic pruning removes: layer -> its channels, or its heads."""
    heads = {m.qkv: m.num_heads for m in network.modules() if hasattr(m, "qkv")}

    class Norm(torch_pruning.importance.GroupMagnitudeImportance):  # type: ignore[misc]  # has no types
        """Our score from the library's sums of squares, for heads given to each of their dimensions."""

        def __call__(self, group: Any) -> Tensor:
            squares = super().__call__(group)
            layers = [item.dep.target.module for item in group if item.dep.target.module in heads]
            if layers and group[0].dep.handler.__name__ == "prune_in_channels":
                squares = squares.view(heads[layers[0]], -1)
                squares = squares.sum(1, keepdim=True).expand_as(squares).flatten()
            return squares.sqrt() / squares.sqrt().mean()

    maps = [nn.Conv2d, nn.Linear]
    names = {module: name for name, module in network.named_modules()}
    inside = [
        m for m in network.modules() if isinstance(m, tuple(maps)) and names[m] in ("fc", "head", "patch_embed.proj")
    ]
    peer = torch_pruning.pruner.BasePruner(
        network, images[:1], Norm(p=2, group_reduction="sum", normalizer=None, target_types=maps),
        global_pruning=True, isomorphic=True, pruning_ratio=share, ignored_layers=inside, num_heads=heads,
        prune_num_heads=True, prune_head_dims=False, head_pruning_ratio=share,
    )  # fmt: skip
    width = {
        name.removesuffix("qkv") + "proj": qkv.out_features // (3 * heads[qkv])
        for qkv, name in names.items()
        if qkv in heads
    }
    found = {}
    for group in peer.step(interactive=True):
        name = names[group[0].dep.target.module]
        found[name] = {index // width.get(name, 1) for index in group[0].idxs}
    return found


@pytest.mark.filterwarnings("ignore:Unwrapped parameters detected")
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_isomorphic_pruning_chooses_what_torch_pruning_chooses(name: str, share: float) -> None:
    network, images = make(name)
    graph = graph_of(network, images)
    scores = group_norms(graph, dict(network.named_parameters()))
    sizes = {s: sum(len(g.channels) for g in graph.groups if g.structure == s) for s in structures(graph)}
    mine: dict[str, set[int]] = {}
    counts = dict.fromkeys(sizes, 0)
    for number, channel in removals(scores, "isomorphic", 0, [group.structure for group in graph.groups]):
        group = graph.groups[number]
        if counts[group.structure] < share * sizes[group.structure]:
            counts[group.structure] += 1
            mine.setdefault(group.name.replace("qkv", "proj"), set()).add(channel)
    assert counts == {structure: share * size for structure, size in sizes.items()}
    assert mine == chosen_by_peer(network, images, share)


def structures(graph: ChannelGraph) -> set[Structure]:
    return {group.structure for group in graph.groups}


def labelled(structure: Structure) -> Any:
    found = networkx.DiGraph()
    for a, kind_a, out_a, b, kind_b, out_b in structure:
        found.add_node(a, label=(kind_a, out_a))
        found.add_node(b, label=(kind_b, out_b))
        found.add_edge(a, b)
    return found


@pytest.mark.parametrize(("name", "classes"), [("resnet18", 4), ("vit", 2), ("swin", 2)])
def test_structures_are_equal_exactly_where_the_graphs_are_isomorphic(name: str, classes: int) -> None:
    graph = graph_of(*make(name))
    assert len(structures(graph)) == classes
    same = networkx.algorithms.isomorphism.categorical_node_match("label", None)
    for a, b in combinations(graph.groups, 2):
        isomorphic = networkx.is_isomorphic(labelled(a.structure), labelled(b.structure), node_match=same)
        assert isomorphic == (a.structure == b.structure), (a.name, b.name)


def test_the_order_of_isomorphic_removal() -> None:
    scores = [torch.tensor([3.0, 1.0, 1.0, 2.0]), torch.tensor([0.5, 5.0]), torch.tensor([9.0, 8.0])]
    # the first two are ranked together, six channels with four that may go; the third loses half when they lose half
    found = removals(scores, "isomorphic", 0, ["a", "a", "b"])
    assert found == [(1, 0), (0, 2), (2, 1), (0, 1), (0, 3)]
    assert removals(scores, "isomorphic", 0.5, ["a", "a", "b"]) == [(1, 0), (0, 2), (2, 1), (0, 1)]
    assert removals(scores, "isomorphic", 0, ["a"] * 3) == removals(scores, "global", 0)
    assert removals(scores, "isomorphic", 0, ["a", "b", "c"]) == removals(scores, "uniform", 0)


@pytest.mark.parametrize("allocation", ["global", "uniform", "isomorphic"])
@pytest.mark.parametrize("name", ["vit", "vit-normed", "swin"])
def test_without_heads_the_network_is_smaller_and_computes_what_the_masked_one_does(name: str, allocation: Any) -> None:
    network, images = make(name)
    before, heads = network(images), [m.num_heads for m in network.modules() if hasattr(m, "qkv")]
    masks = Structured(heads=True, allocation=allocation, importance="random").prune(context(network, images), 0.4)
    masks.apply(network)
    masked = network(images)
    smaller = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), masked, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(masked, before, rtol=1e-2)
    assert abs(masks.sparsity - 0.4) < 0.03
    removed = {k: gone for k, (gone, _) in masks.provenance["channels_removed"].items() if "qkv" in k}
    attentions = [(n, m) for n, m in smaller.named_modules() if hasattr(m, "qkv")]
    assert [m.num_heads + removed[f"{n}.qkv"] for n, m in attentions] == heads
    assert sum(removed.values()) >= 2
    for _, attention in attentions:
        assert attention.qkv.weight.shape[0] == 3 * attention.proj.weight.shape[1] == attention.qkv.out_features
        assert attention.proj.in_features == attention.proj.weight.shape[1]
        assert attention.proj.in_features % attention.num_heads == 0
    assert all(int((p == 0).sum()) == 0 for n, p in smaller.named_parameters() if n in masks)
    size = compare_size(network, masks, images, runs=1)
    gone = masks.total - masks.kept
    assert size.smaller.parameters <= size.dense.parameters - gone
    assert size.smaller.flops < 0.75 * size.dense.flops


def test_masks_are_whole_heads_and_the_rest_of_the_sum_over_heads_stays() -> None:
    network, images = make("vit")
    masks = Structured(heads=True, importance="random", allocation="uniform").prune(context(network, images), 0.4)
    masks.apply(network)
    for number in range(3):
        rows = masks[f"blocks.{number}.attn.qkv.weight"].view(3, 4, 6, 24)
        columns = masks[f"blocks.{number}.attn.proj.weight"].view(24, 4, 6)
        kept = columns[0, :, 0]
        assert 0 < int(kept.sum()) < 4
        assert torch.equal(rows, kept.view(1, 4, 1, 1).expand_as(rows))
        assert torch.equal(columns, kept.view(1, 4, 1).expand_as(columns))
        attention: Any = network.get_submodule(f"blocks.{number}.attn")
        assert (attention.qkv.bias.view(3, 4, 6)[:, ~kept] == 0).all()
        with isolated_randomness("tokens"):
            tokens = torch.randn(2, 7, 24)
        q, k, v = attention.qkv(tokens).view(2, 7, 3, 4, 6).permute(2, 3, 0, 1, 4)
        joined = attention.proj.bias.expand(2, 7, 24)
        for head in kept.nonzero().flatten().tolist():
            weights = (q[head] @ k[head].transpose(1, 2) / 6**0.5).softmax(-1)
            joined = joined + weights @ v[head] @ attention.proj.weight[:, 6 * head : 6 * head + 6].T
        torch.testing.assert_close(attention(tokens), joined, rtol=1e-5, atol=1e-5)


def test_the_score_of_a_head_is_the_norm_of_all_that_it_owns() -> None:
    network, images = make("vit")
    graph = graph_of(network, images)
    scores = dict(
        zip([g.name for g in graph.groups], group_norms(graph, dict(network.named_parameters())), strict=True)
    )
    attention: Any = network.get_submodule("blocks.1.attn")
    rows = attention.qkv.weight.double().square().view(3, 4, -1).sum((0, 2))
    columns = attention.proj.weight.double().square().view(24, 4, 6).sum((0, 2))
    expected = (rows + columns).sqrt()
    torch.testing.assert_close(scores["blocks.1.attn.qkv"], expected.detach() / expected.detach().mean())


def test_each_class_loses_the_same_share() -> None:
    network, images = make("vit")
    job = context(network, images)
    shares: dict[str, dict[Structure, float]] = {}
    for allocation in ("isomorphic", "global"):
        chosen: Any = allocation
        masks = Structured(heads=True, allocation=chosen).prune(job, 0.3)
        graph = graph_of(network, images)
        gone: dict[Structure, list[int]] = {}
        for group in graph.groups:
            removed, total = masks.provenance["channels_removed"][group.name]
            counts = gone.setdefault(group.structure, [0, 0])
            counts[0], counts[1] = counts[0] + removed, counts[1] + total
        shares[allocation] = {structure: a / b for structure, (a, b) in gone.items()}
    low, high = sorted(shares["isomorphic"].values())
    assert high - low <= 1 / 12  # one of the twelve heads
    assert shares["global"] != shares["isomorphic"]


def test_by_default_heads_stay_and_identities_are_as_before() -> None:
    network, images = make("vit")
    masks = Structured().prune(context(network, images), 0.3)
    assert all(mask.all() for name, mask in masks.items() if "attn" in name)
    registry = load_registry()
    assert "heads" not in str(bind(registry, "pruner", "structured").identity())
    assert "heads" in str(bind(registry, "pruner", {"use": "structured", "heads": True}).identity())


class Interleaved(nn.Module):
    """Attention with the queries, keys and values of each head side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.embed, self.qkv, self.proj, self.head = nn.Linear(3, 8), nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(x).view(*x.shape[:2], self.num_heads, 3, 2).permute(3, 0, 2, 1, 4)
        x = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(self.proj(x).mean(1))


class Fixed(Interleaved):
    """The usual order, but a width that does not follow the number of heads."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, 4, 2).permute(2, 0, 3, 1, 4)
        x = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(self.proj(x).mean(1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Interleaved, "Interleaved computes something else without a head than with zeros in its place"),
        (Fixed, "Fixed does not run with fewer heads"),
    ],
)
def test_attention_of_another_make_is_left_out_with_the_reason(build: type[nn.Module], message: str) -> None:
    with isolated_randomness("other attention"):
        network, images = build().eval(), torch.randn(2, 3, 4, 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph = graph_of(network, images)
    assert "qkv" not in [group.name for group in graph.groups]
    assert graph.skipped["qkv"] == message
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_scope_and_shared_weights_hold_for_heads() -> None:
    network, images = make("vit")
    parameters = prunable_parameters(network, Scope(exclude=("blocks.0.attn.proj.weight",)))
    graph = channel_graph(network, images, frozenset(parameters), heads=True)
    heads = [group.name for group in graph.groups if group.attention is not None]
    assert heads == ["blocks.1.attn.qkv", "blocks.2.attn.qkv"]
    assert graph.skipped["blocks.0.attn.qkv"] == "blocks.0.attn.proj.weight is outside the scope"
    network.blocks[1].attn.qkv.weight = network.blocks[0].attn.qkv.weight
    graph = graph_of(network, images)
    assert [group.name for group in graph.groups if group.attention is not None] == ["blocks.2.attn.qkv"]
    assert graph.skipped["blocks.1.attn.qkv"] == "its weights are shared"


def test_one_head_of_each_module_stays() -> None:
    network, images = make("vit")
    job = context(network, images)
    masks = Masks({n: torch.full(p.shape, "proj" in n) for n, p in job.parameters.items()})
    smallest: Any = shrink(network, masks, images)
    assert [block.attn.num_heads for block in smallest.blocks] == [4, 4, 4]  # as columns of proj are left
    masks = Masks({n: torch.full(p.shape, "attn" not in n) for n, p in job.parameters.items()})
    masks["blocks.1.attn.proj.weight"][0, 0] = True
    smallest = shrink(network, masks, images)
    assert smallest.blocks[1].attn.num_heads == 1
    with pytest.raises(UsageError, match=r"reaches at most sparsity 0.\d+ on this network, but 0.99 was requested"):
        Structured(heads=True, floor=0).prune(job, 0.99)


def test_a_network_with_fewer_heads_can_lose_more_of_them() -> None:
    network, images = make("vit")
    masks = Structured(heads=True, allocation="isomorphic").prune(context(network, images), 0.3)
    smaller = shrink(network, masks, images)
    again = pb.prune(smaller, "structured", 0.3, [(images, None)], heads=True, allocation="isomorphic")
    again.apply(smaller)
    smallest = shrink(smaller, again, images)
    torch.testing.assert_close(smallest(images), smaller(images), rtol=1e-5, atol=1e-5)
    counts = [sum(m.num_heads for m in n.modules() if hasattr(m, "qkv")) for n in (network, smaller, smallest)]
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_after_training_the_smaller_network_is_still_the_same(name: str) -> None:
    network, images = make(name)
    masks = Structured(heads=True, allocation="isomorphic").prune(context(network, images), 0.4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    network.train()
    with masks.kept_during(network, optimizer):
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), torch.tensor([0, 1, 2])).backward()
            optimizer.step()
    network.eval()
    torch.testing.assert_close(shrink(network, masks, images)(images), network(images), rtol=1e-4, atol=1e-5)
