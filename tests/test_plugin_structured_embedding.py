"""The pruner structured: channels of a vision transformer's embedding, masked and really removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pruningbench_structured import compare_size, shrink
from pruningbench_structured.blocks import Blocks
from pruningbench_structured.embedding import PartialNorm, embedding_channels
from pruningbench_structured.graph import channel_graph
from pruningbench_structured.importance import group_norms
from pruningbench_structured.pruner import Structured
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import PruningContext
from pruningbench.plugins import load_registry
from pruningbench.pruning.scope import Scope, prunable_parameters
from pruningbench.suite.binding import bind


def vit(**given: Any) -> nn.Module:
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 4}
    return VisionTransformer(**{"num_classes": 5, **sizes, **given})


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": vit,
    "dinov2": lambda: vit(init_values=0.1, reg_tokens=4, no_embed_class=True, dynamic_img_size=True),
    "clip": lambda: vit(pre_norm=True, qkv_bias=False, norm_layer=nn.LayerNorm),
    "pooled": lambda: vit(class_token=False, global_pool="avg", fc_norm=True, qk_norm=True, depth=3),
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network whose layers and channels differ in scale, and whose biases are not zero; and images."""
    with isolated_randomness("embedding", name):
        network = NETWORKS[name]().eval()
        for parameter in network.parameters():
            if parameter.ndim in (2, 4):
                rows = torch.empty(len(parameter), *[1] * (parameter.ndim - 1)).uniform_(0.3, 3)
                parameter.data = rows * torch.randn(parameter.shape) / parameter[0].numel() ** 0.5
            else:
                parameter.data += 0.3 * torch.randn(parameter.shape)
        return network, torch.randn(3, 3, 16, 16)


def context(network: nn.Module, images: Tensor, scope: Scope | None = None) -> PruningContext:
    return PruningContext(network, prunable_parameters(network, scope), batches=lambda: iter([(images, None)]))


@pytest.mark.parametrize("allocation", ["global", "isomorphic"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_without_channels_of_the_embedding_the_network_computes_what_the_masked_one_does(
    name: str, allocation: Any
) -> None:
    network, images = make(name)
    before = network(images)
    pruner = Structured(embedding=True, heads=True, allocation=allocation, importance="random")
    masks = pruner.prune(context(network, images), 0.5)
    masks.apply(network)
    masked = network(images)
    assert not torch.allclose(masked, before, rtol=1e-2)
    assert abs(masks.sparsity - 0.5) < 0.03
    gone, width = masks.provenance["channels_removed"]["patch_embed.proj"]
    assert (width, gone > 2) == (24, True)
    smaller: Any = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), masked, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(smaller(2 * images[:1]), network(2 * images[:1]), rtol=1e-5, atol=1e-5)
    kept = ~(masks["patch_embed.proj.weight"].flatten(1).sum(1) == 0)
    assert smaller.embed_dim == smaller.num_features == 24 - gone == int(kept.sum())
    tokens, dense_tokens = smaller.forward_features(images), network.forward_features(images)
    torch.testing.assert_close(tokens, dense_tokens[..., kept], rtol=1e-5, atol=1e-5)
    assert all(int((p == 0).sum()) == 0 for n, p in smaller.named_parameters() if n in masks)
    size = compare_size(network, masks, images, runs=1)
    assert size.smaller.parameters <= size.dense.parameters - (masks.total - masks.kept)
    assert size.smaller.flops < 0.75 * size.dense.flops


def test_a_channel_owns_everything_that_writes_or_reads_it() -> None:
    network, images = make("dinov2")
    masks = Structured(embedding=True, importance="random").prune(context(network, images), 0.4)
    kept = masks["patch_embed.proj.weight"].flatten(1).any(1)
    masks.apply(network)
    sizes = {name: list(p.shape).count(24) for name, p in network.named_parameters()}
    for name, parameter in network.named_parameters():
        if sizes[name] == 1:
            along = (
                parameter.movedim(list(parameter.shape).index(24), 0).flatten(1) if parameter.ndim > 1 else parameter
            )
            assert not along[~kept].any(), name
            assert along[kept].any(), name
    assert [name for name, count in sizes.items() if count > 1] == [f"blocks.{i}.attn.proj.weight" for i in (0, 1)]
    assert not network.blocks[1].attn.proj.weight[~kept].any()
    assert {name for name, count in sizes.items() if not count} == {
        "head.bias", *(f"blocks.{i}.{name}" for i in (0, 1) for name in ("attn.qkv.bias", "mlp.fc1.bias"))
    }  # fmt: skip
    graph = channel_graph(network, images, frozenset(masks), embedding=True)
    group = next(group for group in graph.groups if group.embedding)
    assert {part.name for part in group.parts if part.weight} == {name for name in masks if sizes[name]}


def test_the_score_of_a_channel_is_the_norm_of_all_that_it_owns() -> None:
    network, images = make("vit")
    graph = channel_graph(network, images, frozenset(prunable_parameters(network)), embedding=True)
    number = next(i for i, group in enumerate(graph.groups) if group.embedding)
    squares = network.patch_embed.proj.weight.double().square().sum((1, 2, 3))
    squares = squares + network.head.weight.double().square().sum(0)
    for block in network.blocks:
        squares = (
            squares + block.attn.qkv.weight.double().square().sum(0) + block.mlp.fc1.weight.double().square().sum(0)
        )
        squares = (
            squares + block.attn.proj.weight.double().square().sum(1) + block.mlp.fc2.weight.double().square().sum(1)
        )
    expected = squares.sqrt().detach()
    found = group_norms(graph, dict(network.named_parameters()))[number]
    torch.testing.assert_close(found, expected / expected.mean())


@pytest.mark.parametrize("affine", [True, False])
def test_a_partial_norm_is_the_norm_of_the_channels_with_zeros(affine: bool) -> None:
    with isolated_randomness("norm", affine):
        full, x = nn.LayerNorm(12, eps=1e-3, elementwise_affine=affine), torch.randn(2, 5, 12)
        kept = torch.arange(12) % 3 != 1
        if affine:
            full.weight.data, full.bias.data = torch.randn(12), torch.randn(12)
    partial = PartialNorm(full, kept)
    x = x * kept
    torch.testing.assert_close(partial(x[..., kept]), full(x)[..., kept])
    mean = x.sum(-1, keepdim=True) / 12
    variance = x.square().sum(-1, keepdim=True) / 12 - mean.square()
    normal = (x - mean) / (variance + 1e-3).sqrt()
    expected = normal * full.weight + full.bias if affine else normal
    torch.testing.assert_close(partial(x[..., kept]), expected[..., kept])
    again = PartialNorm(partial, torch.arange(8) < 6)
    x = x * (kept.cumsum(0) <= 6)
    torch.testing.assert_close(again(x[..., kept][..., :6]), full(x)[..., kept][..., :6])
    assert again.total == 12


def test_a_smaller_network_can_become_smaller_still_and_a_dense_one_is_shrunk_as_the_pruner_leaves_it() -> None:
    network, images = make("vit")
    dense = make("vit")[0]
    masks = Structured(embedding=True, importance="random").prune(context(network, images), 0.3)
    masks.apply(network)
    smaller: Any = shrink(dense, masks, images)
    torch.testing.assert_close(smaller(images), network(images), rtol=1e-5, atol=1e-5)
    again = Structured(embedding=True, importance="random").prune(context(smaller, images), 0.3)
    again.apply(smaller)
    smallest: Any = shrink(smaller, again, images)
    torch.testing.assert_close(smallest(images), smaller(images), rtol=1e-5, atol=1e-5)
    assert 24 > smaller.embed_dim > smallest.embed_dim
    assert {module.total for module in smallest.modules() if isinstance(module, PartialNorm)} == {24}


def test_blocks_and_branches_and_channels_go_together() -> None:
    network, images = make("pooled")
    narrow = Structured(embedding=True, heads=True, importance="random").prune(context(network, images), 0.3)
    narrow.apply(network)
    branches = Blocks(branches=True, importance="random").prune(context(network, images), 0.3)
    masks = narrow.intersect(branches)
    masks.apply(network)
    smaller: Any = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), network(images), rtol=1e-5, atol=1e-5)
    assert smaller.embed_dim < 24
    names = {name for name, _ in smaller.named_parameters()}
    assert not any(name.startswith(f"{gone}.") for gone in branches.provenance["blocks_removed"] for name in names)


def swin() -> nn.Module:
    return SwinTransformer(img_size=16, patch_size=2, embed_dim=16, window_size=4, depths=(2, 2), num_heads=(2, 4))


@pytest.mark.parametrize(
    ("build", "scope", "reason"),
    [
        (lambda: vit(num_classes=0), None, "its channels are the network's output"),
        (vit, Scope(head=False), "head.weight is outside the scope"),
        (swin, None, "SwinTransformer has no patch_embed.proj and blocks, as timm's vision transformers have"),
        (lambda: vit(global_pool="map", class_token=False), None,
         "VisionTransformer does not run with fewer channels in its embedding"),
    ],
)  # fmt: skip
def test_other_embeddings_are_left_out_with_the_reason(
    build: Callable[[], nn.Module], scope: Scope | None, reason: str
) -> None:
    with isolated_randomness("other embeddings"):
        network, images = build().eval(), torch.randn(2, 3, 16, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = prunable_parameters(network, scope)
    assert embedding_channels(network, images, parameters) == (None, reason)
    graph = channel_graph(network, images, frozenset(parameters), embedding=True)
    assert graph.skipped["patch_embed.proj"] == reason
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("classes", "told"), [(5, False), (0, True)])
def test_a_run_is_told_that_the_embedding_stays(classes: int, *, told: bool) -> None:
    with isolated_randomness("told"):
        network, images = vit(num_classes=classes).eval(), torch.randn(2, 3, 16, 16)
    notes: list[str] = []
    parameters = prunable_parameters(network)
    given = PruningContext(network, parameters, batches=lambda: iter([(images, None)]), report=notes.append)
    Structured(embedding=True).prune(given, 0.1)
    start = "structured leaves the channels of the embedding as they are: "
    assert [note.removeprefix(start) for note in notes if note.startswith(start)] == [
        "its channels are the network's output"
    ] * told


def test_by_default_the_embedding_stays_and_identities_are_as_before() -> None:
    network, images = make("vit")
    masks = Structured(heads=True).prune(context(network, images), 0.3)
    assert masks["patch_embed.proj.weight"].all()
    registry = load_registry()
    assert "embedding" not in str(bind(registry, "pruner", "structured").identity())
    assert "embedding" in str(bind(registry, "pruner", {"use": "structured", "embedding": True}).identity())
