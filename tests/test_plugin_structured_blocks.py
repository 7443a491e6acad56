"""The pruner blocks: residual blocks and branches, masked and really taken out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from pruningbench_structured import compare_size, shrink
from pruningbench_structured.blocks import Blocks
from pruningbench_structured.influence import influences, output_changes
from pruningbench_structured.residual import residual_units
from pruningbench_structured.skipping import Constant, Skip
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

import pruningbench as pb
from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Outline, PruningContext
from pruningbench.errors import CollapseWarning, PruningBenchError, UsageError
from pruningbench.pruning.scope import Scope, prunable_parameters


def vit(**given: Any) -> nn.Module:
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 4, "num_heads": 4}
    return VisionTransformer(num_classes=5, **{**sizes, **given})


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": vit,
    "dinov2": lambda: vit(init_values=0.1, reg_tokens=4, class_token=True, no_embed_class=True, dynamic_img_size=True),
    "swin": lambda: SwinTransformer(
        img_size=16, patch_size=2, embed_dim=16, window_size=4, depths=(2, 2), num_heads=(2, 4), num_classes=5
    ),
    "mixer": lambda: MlpMixer(num_classes=5, img_size=16, patch_size=4, num_blocks=3, embed_dim=16),
    "convnext": lambda: timm.create_model("test_convnext", num_classes=5),
    "resnet18": lambda: ResNet(BasicBlock, [2, 2, 2, 2], num_classes=5, channels=(64, 24, 32, 40)),
    "resnet50": lambda: ResNet(Bottleneck, [2, 2, 2, 2], num_classes=5, channels=(8, 12, 16, 20)),
    "torchvision-vit": lambda: torchvision.models.VisionTransformer(16, 4, 3, 4, 24, 48, num_classes=5),
}
SINGLE = ("vit", "dinov2", "swin", "mixer")
"""Networks whose blocks add several branches to their input."""


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network in which no weight, bias or statistic is zero or tiny, and images."""
    with isolated_randomness("blocks", name):
        network = NETWORKS[name]().eval()
        for parameter in network.parameters():
            if parameter.ndim < 2:
                parameter.data += 0.1 * torch.randn(parameter.shape)
            else:
                parameter.data = torch.randn(parameter.shape) / parameter[0].numel() ** 0.5
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
        return network, torch.randn(4, 3, *([48, 48] if "resnet" in name or name == "convnext" else [16, 16]))


def context(network: nn.Module, images: Tensor, labels: Tensor | None = None, **given: Any) -> PruningContext:
    parameters = prunable_parameters(network, given.pop("scope", None))
    return PruningContext(network, parameters, batches=lambda: iter([(images, labels)]), **given)


CASES = [(name, False) for name in NETWORKS] + [(name, True) for name in SINGLE]


@pytest.mark.parametrize(("name", "branches"), CASES)
def test_masked_and_smaller_networks_compute_what_the_network_without_the_blocks_does(
    name: str, branches: bool
) -> None:
    network, images = make(name)
    before, dense = network(images), sum(p.numel() for p in network.parameters())
    sparsity = {"resnet18": 0.3, "resnet50": 0.3}.get(name, 0.4)
    masks = Blocks(branches=branches).prune(context(network, images), sparsity)
    removed = masks.provenance["blocks_removed"]
    masks.apply(network)
    masked = network(images)
    assert len(removed) >= 1
    assert not torch.allclose(masked, before, rtol=1e-2)
    assert all(
        set(mask.unique().tolist()) == {not n.startswith(tuple(f"{r}." for r in removed))} for n, mask in masks.items()
    )
    smaller = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), masked, rtol=1e-5, atol=1e-5)
    assert not any(n.startswith(f"{block}.") for block in removed for n, _ in smaller.named_parameters())
    assert {n for n, _ in smaller.named_parameters() if n in masks} == {n for n, mask in masks.items() if mask.all()}
    size = compare_size(network, masks, images, runs=1)
    assert size.smaller.parameters <= dense - (masks.total - masks.kept)
    assert size.smaller.flops < size.dense.flops


def test_a_transformer_without_two_blocks_is_one_built_without_them() -> None:
    network, images = make("vit")
    dense: Any = make("vit")[0]
    masks = Blocks(importance="random").prune(context(network, images, seed=3), 0.5)
    removed = [int(name.removeprefix("blocks.")) for name in masks.provenance["blocks_removed"]]
    assert len(removed) == 2
    dense.blocks = nn.Sequential(*[block for number, block in enumerate(dense.blocks) if number not in removed])
    smaller: Any = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), dense(images))
    assert sum(p.numel() for p in smaller.parameters()) == sum(p.numel() for p in dense.parameters())
    torch.testing.assert_close(smaller.forward_features(images), dense.forward_features(images))


def test_a_block_without_its_mlp_adds_its_attention_only() -> None:
    network, images = make("dinov2")
    dense: Any = make("dinov2")[0]
    masks = Blocks(branches=True, importance="magnitude").prune(context(network, images), 0.3)
    removed = masks.provenance["blocks_removed"]
    x = dense._pos_embed(dense.patch_embed(images))
    for number, block in enumerate(dense.blocks):
        x = x if f"blocks.{number}.attn" in removed else x + block.ls1(block.attn(block.norm1(x)))
        x = x if f"blocks.{number}.mlp" in removed else x + block.ls2(block.mlp(block.norm2(x)))
    smaller: Any = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), dense.forward_head(dense.norm(x)))
    kept = {n.rpartition(".")[0] for n, _ in smaller.named_parameters() if "norm" in n and "blocks" in n}
    assert kept == {  # norms before removed branches are gone, too
        f"blocks.{number}.{norm}"
        for number in range(4)
        for norm, branch in (("norm1", "attn"), ("norm2", "mlp"))
        if f"blocks.{number}.{branch}" not in removed
    }


def test_a_resnet_loses_blocks_whose_shortcut_is_the_identity() -> None:
    network, images = make("resnet18")
    units, skipped = residual_units(network, images, prunable_parameters(network))
    assert [unit.name for unit in units] == ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]
    assert skipped == {}
    masks = Blocks().prune(context(network, images), 0.9 * 0.6)
    smaller: Any = shrink(network, masks, images)
    dense: Any = make("resnet18")[0]
    for name in masks.provenance["blocks_removed"]:
        stage, number = name.split(".")
        dense.get_submodule(stage)[int(number)] = nn.Identity()
    torch.testing.assert_close(smaller(images), dense(images))


def test_block_influence_is_one_minus_the_mean_cosine_of_input_and_output() -> None:
    network, images = make("vit")
    parameters = prunable_parameters(network)
    x, expected, branches = network._pos_embed(network.patch_embed(images)), [], []
    with torch.no_grad():
        for block in network.blocks:
            middle = x + block.attn(block.norm1(x))
            y = middle + block.mlp(block.norm2(middle))
            expected.append(1 - float(cosine_similarity(x.double(), y.double(), dim=-1).mean()))
            alone = x + block.mlp(block.norm2(x))
            branches += [1 - float(cosine_similarity(z.double(), y.double(), dim=-1).mean()) for z in (alone, middle)]
            x = y
    batches = [(images[:1], None), (images[1:], None)]
    units, _ = residual_units(network, images, parameters)
    assert influences(network, units, batches) == pytest.approx(expected, rel=1e-5)
    single, _ = residual_units(network, images, parameters, branches=True)
    assert influences(network, single, batches) == pytest.approx(branches, rel=1e-5)
    assert min(expected) > 0.01
    masks = Blocks().prune(context(network, images), 0.24)
    assert masks.provenance["blocks_removed"] == [f"blocks.{expected.index(min(expected))}"]


def test_the_change_of_the_outputs_and_of_the_loss() -> None:
    network, images = make("resnet18")
    labels = torch.tensor([0, 1, 2, 3])
    units, _ = residual_units(network, images, prunable_parameters(network))
    changes, losses = [], []
    with torch.no_grad():
        f = network(images).double()
        for unit in units:
            without = make("resnet18")[0]
            stage, number = unit.name.split(".")
            without.get_submodule(stage)[int(number)] = nn.Identity()
            g = without(images).double()
            changes.append(float((f - g).square().sum() / f.square().sum()))
            losses.append(float(cross_entropy(g, labels) - cross_entropy(f, labels)))
    assert output_changes(network, units, [(images[:3], None), (images[3:], None)]) == pytest.approx(changes, rel=1e-4)
    for importance, scores in (("output", changes), ("loss", losses)):
        chosen: Any = importance
        masks = Blocks(importance=chosen).prune(context(network, images, labels), 0.2)
        sizes = [sum(masks[name].numel() for name in unit.weights) / masks.total for unit in units]
        order = sorted(range(5), key=scores.__getitem__)
        pruned = [sum(sizes[i] for i in order[:count]) for count in range(6)]
        count = min(range(6), key=lambda count: abs(pruned[count] - 0.2))
        assert masks.provenance["blocks_removed"] == [units[i].name for i in sorted(order[:count])]
        network = make("resnet18")[0]


@pytest.mark.parametrize(("name", "branches"), [("vit", False), ("vit", True), ("dinov2", False), ("resnet18", False)])
def test_after_training_a_removed_block_adds_no_more_than_a_constant(name: str, branches: bool) -> None:
    network, images = make(name)
    masks = Blocks(branches=branches).prune(context(network, images), 0.3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network.train()
    with masks.kept_during(network, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(network(images), torch.tensor([0, 1, 2, 3])).backward()
            optimizer.step()
    network.eval()
    smaller = shrink(network, masks, images)
    torch.testing.assert_close(smaller(images), network(images), rtol=1e-4, atol=1e-4)
    left = [module for module in smaller.modules() if isinstance(module, (Skip, Constant))]
    assert left
    assert all(
        len(list(module.parameters())) == (name != "dinov2") for module in left
    )  # no gradients behind zero scales
    assert any(module.rectify for module in left if isinstance(module, Skip)) == (name == "resnet18")


def test_blocks_need_no_library_and_channels_go_as_well_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = make("vit")
    with pytest.warns(CollapseWarning, match="leaves no weight in 4 of 18 parameters"):
        masks = pb.prune(network, "blocks", 0.25, [(images, None)])
    channels = pb.prune(make("vit")[0], "structured", 0.3, [(images, None)], heads=True)
    both = masks.intersect(channels)
    both.apply(network)
    smaller = shrink(network, both, images)
    left = sum(p.numel() for n, p in smaller.named_parameters() if n in both)
    assert left < 0.65 * both.total
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    dense, without = (make("vit")[0] for _ in range(2))
    Blocks().prune(context(without, images), 0.25)
    masks.apply(without)
    torch.testing.assert_close(shrink(dense, masks, images)(images), without(images), rtol=1e-5, atol=1e-5)


class Twice(nn.Module):
    """The same block two times, then another."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(12, 8), nn.Linear(8, 3)
        self.again, self.once = (nn.TransformerEncoderLayer(8, 2, 16, norm_first=True) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.once(self.again(self.again(self.embed(images.flatten(2).transpose(1, 2))))).mean(1))


def test_what_cannot_be_removed_is_named() -> None:
    with isolated_randomness("twice"):
        network, images = Twice().eval(), torch.randn(4, 12, 2, 2)
    assert residual_units(network, images, prunable_parameters(network))[1] == {
        "again": "it or its weights are used more than once"
    }
    vit, pictures = make("vit")
    scope = Scope(exclude=("blocks.[023].attn.qkv.weight",))
    masks = Blocks(importance="random").prune(context(vit, pictures, scope=scope), 0.2)
    assert masks.provenance["blocks_removed"] == ["blocks.1"]
    assert masks.provenance["left_out"]["blocks.0"] == "blocks.0.attn.qkv.weight is outside the scope"
    with pytest.raises(UsageError, match=r"'blocks' reaches at most sparsity 0\.\d+ on this network, but 0.9 was"):
        Blocks().prune(context(make("vit")[0], pictures, scope=scope), 0.9)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(UsageError, match="'blocks' cannot find residual blocks to remove in Sequential"):
        Blocks().prune(context(plain, images), 0.5)
    with pytest.raises(PruningBenchError, match="'blocks' with importance loss needs labels"):
        Blocks(importance="loss").prune(context(make("vit")[0], pictures), 0.5)
    assert Blocks(samples=0).problem() == "samples must be at least 1"


def test_only_random_scores_depend_on_the_seed_and_the_cost_is_that_of_the_passes() -> None:
    network, images = make("vit")
    found = {
        tuple(
            Blocks(importance="random").prune(context(make("vit")[0], images, seed=s), 0.5).provenance["blocks_removed"]
        )
        for s in range(6)
    }
    assert len(found) > 1
    assert [Blocks(importance=kind).seeded for kind in ("random", "influence")] == [True, False]
    outline = Outline({n: tuple(p.shape) for n, p in prunable_parameters(network).items()}, samples=100)
    assert [Blocks(importance=kind, samples=64).cost(outline).forward for kind in ("influence", "output")] == [1, 10]
