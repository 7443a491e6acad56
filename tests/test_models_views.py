"""The views of every family of networks, equal to direct computation, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit.models import SMALL, images, small
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import softmax

from pruningbench.contract import VisionModel
from pruningbench.errors import ViewUnavailableError

CNNS = ["resnet18", "convnext_atto", "test_efficientnet relu6", "test_efficientnet"]
VITS = ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"]
SWIN = "swin_tiny_patch4_window7_224"
LAST = {"resnet18": "layer4", "convnext_atto": "stages", "test_efficientnet relu6": "bn2", "test_efficientnet": "bn2"}
CLASSIFIER = {
    "resnet18": "fc", "convnext_atto": "head.fc", "test_efficientnet relu6": "classifier",
    "test_efficientnet": "classifier", "vit_tiny_patch16_224": "head", SWIN: "head.fc",
}  # fmt: skip


def output_of(network: nn.Module, module: str, x: Tensor) -> Tensor:
    caught: list[Tensor] = []
    handle = network.get_submodule(module).register_forward_hook(lambda _m, _i, output: caught.append(output))
    network(x)
    handle.remove()
    (output,) = caught
    return output


def sides(name: str) -> int:
    return 64 if name in CNNS else 32


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_the_classifier_applied_to_the_embedding(name: str) -> None:
    model, x = small(name), images(sides(name))
    embedding, logits = model.embed(x), model.logits(x)
    assert embedding.shape[0] == 2
    assert torch.equal(logits, model.network(x))
    assert model.classes == tuple("01234")
    if name == "deit_tiny_distilled_patch16_224":
        network: Any = model.network
        tokens = network.forward_features(x)
        assert torch.allclose(embedding, tokens[:, :2].mean(1), atol=1e-6)
        by_hand = (network.head(tokens[:, 0]) + network.head_dist(tokens[:, 1])) / 2
        assert model.head == ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
    else:
        classifier: Any = model.network.get_submodule(CLASSIFIER[name])
        by_hand = embedding @ classifier.weight.T + classifier.bias
        assert model.head == (f"{CLASSIFIER[name]}.weight", f"{CLASSIFIER[name]}.bias")
    assert torch.allclose(logits, by_hand, atol=1e-4)


@pytest.mark.parametrize("name", CNNS)
def test_patch_features_of_a_cnn_are_its_last_stage(name: str) -> None:
    model, x = small(name), images(64)
    expected = output_of(model.network, LAST[name], x)
    assert expected.shape[2:] == (2, 2)
    for facet in ("keys", "tokens"):
        assert torch.equal(model.patch_features(x, facet), expected)
    for facet in ("queries", "values"):
        with pytest.raises(ViewUnavailableError, match=f"no {facet}"):
            model.patch_features(x, facet)
    assert model.prefix_tokens == 0
    with pytest.raises(ViewUnavailableError, match="attention"):
        model.attentions(x)


def test_patch_features_of_swin_are_its_last_stage_with_channels_first() -> None:
    model, x = small(SWIN), images()
    network: Any = model.network
    stage = network.forward_features(x)
    assert stage.shape == (2, 4, 4, 16)
    features = model.patch_features(x)
    assert torch.equal(features, stage.permute(0, 3, 1, 2))
    with pytest.raises(ViewUnavailableError, match="attention"):
        model.attentions(x)
    with pytest.raises(ViewUnavailableError, match="both signs"):
        model.head_split()


def by_hand(model: VisionModel, x: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Compute queries, keys, values and outputs of the last block, and all attention, without fused kernels."""
    network: Any = model.network
    attention = []
    tokens = network.norm_pre(network._pos_embed(network.patch_embed(x)))
    for block in network.blocks:
        inside = block.norm1(tokens)
        width, heads = inside.shape[-1], block.attn.num_heads
        q, k, v = (
            inside @ block.attn.qkv.weight[i * width : (i + 1) * width].T
            + block.attn.qkv.bias[i * width : (i + 1) * width]
            for i in range(3)
        )
        split = [part.reshape(len(x), -1, heads, width // heads).transpose(1, 2) for part in (q, k, v)]
        weights = softmax(split[0] @ split[1].transpose(2, 3) / (width // heads) ** 0.5, dim=-1)
        attention.append(weights)
        mixed = (weights @ split[2]).transpose(1, 2).flatten(2)
        tokens = tokens + block.attn.proj(mixed)
        tokens = tokens + block.mlp(block.norm2(tokens))
    return {"queries": q, "keys": k, "values": v, "tokens": tokens}, attention


@pytest.mark.parametrize("name", VITS)
def test_facets_and_attention_of_a_vit_equal_a_direct_computation(name: str) -> None:
    model, x = small(name), images()
    facets, attention = by_hand(model, x)
    prefix = {"vit_tiny_patch16_224": 1, "deit_tiny_distilled_patch16_224": 2}[name]
    assert model.prefix_tokens == prefix
    for facet, expected in facets.items():
        found = model.patch_features(x, facet)  # type: ignore[arg-type]
        assert found.shape == (2, 32, 4, 4)
        for row in range(4):
            for column in range(4):
                cell = expected[:, prefix + 4 * row + column]
                assert torch.allclose(found[:, :, row, column], cell, atol=1e-4), facet
    assert torch.equal(model.patch_features(x), model.patch_features(x, "keys"))
    found = model.attentions(x)
    assert found.shape == (2, 2, 2, 16 + prefix, 16 + prefix)
    assert torch.allclose(found, torch.stack(attention), atol=1e-5)
    assert torch.allclose(found.sum(-1), torch.ones(found.shape[:-1]), atol=1e-5)


@pytest.mark.parametrize("name", VITS)
def test_attention_explains_what_the_fused_kernel_computes(name: str) -> None:
    """The attention of the first block times its values is what the fused block projects."""
    model, x = small(name), images()
    network: Any = model.network
    first = network.blocks[0].attn
    assert first.fused_attn
    projected = output_of(network, "blocks.0.attn.proj", x)
    fused = output_of(network, "blocks.0.attn.qkv", x)
    weights = model.attentions(x)[0]
    assert first.fused_attn  # and it is fused again
    values = fused.chunk(3, dim=-1)[2].reshape(2, -1, 2, 16).transpose(1, 2)
    assert torch.allclose(first.proj((weights @ values).transpose(1, 2).flatten(2)), projected, atol=1e-5)


def test_fused_attention_is_switched_on_again_after_an_error() -> None:
    model = small("vit_tiny_patch16_224")
    network: Any = model.network
    with pytest.raises(RuntimeError):
        model.attentions(torch.randn(1, 1, 32, 32))
    assert all(block.attn.fused_attn for block in network.blocks)
    assert not any(block.attn.attn_drop._forward_hooks for block in network.blocks)


def test_attention_of_blocks_that_mix_otherwise_is_refused() -> None:
    model = small("vit_tiny_patch16_224")
    network: Any = model.network
    network.blocks[0].attn = nn.Identity()
    with pytest.raises(ViewUnavailableError, match="without attention"):
        model.attentions(images())
    with pytest.raises(ViewUnavailableError, match="divisible"):
        small("vit_tiny_patch16_224").attentions(images(36))


@pytest.mark.parametrize("name", SMALL)
def test_every_cell_of_the_activation_changes_the_logits(name: str) -> None:
    """Grad-CAM's module: its output has a grid, and the logits depend on all of it."""
    model, x = small(name), images(sides(name), 1)
    module, grid = model.activation_module()
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = module.register_forward_hook(keep)
    model.logits(x.requires_grad_())[0, 3].backward()
    handle.remove()
    (output,) = kept
    assert output.grad is not None
    gradient = grid(output.grad, x)
    cells = 2 if name in CNNS else 4
    assert gradient.shape[0] == 1
    assert gradient.shape[2:] == (cells, cells)
    assert bool((gradient.abs().sum(1) > 0).all())
    if name in VITS:
        network: Any = model.network
        tokens = network.norm_pre(network._pos_embed(network.patch_embed(x)))
        last = network.blocks[-1].norm1(network.blocks[:-1](tokens))[:, model.prefix_tokens :]
        assert torch.allclose(grid(output, x).flatten(2).transpose(1, 2), last, atol=1e-5)
    else:
        assert torch.allclose(grid(output, x), model.patch_features(x), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet relu6"])
def test_head_split_composes_to_the_logits(name: str) -> None:
    model, x = small(name), images(64)
    activations, head = model.head_split()
    stage = activations(x)
    assert float(stage.detach().min()) >= 0
    assert torch.allclose(head(stage), model.logits(x), atol=1e-5)


@pytest.mark.parametrize("name", ["convnext_atto", "test_efficientnet"])
def test_a_last_stage_with_negative_values_has_no_head_split(name: str) -> None:
    activations, _ = small(name).head_split()
    with pytest.raises(ViewUnavailableError, match="negative"):
        activations(images(64))


@pytest.mark.parametrize("stride", [16, 8])
def test_dilation_refines_the_grid_and_changes_no_cell(stride: int) -> None:
    """Dilation computes the same features at more places: every n-th of them is a cell of the coarse grid."""
    coarse, fine = small("resnet18"), small("resnet18", output_stride=stride)
    fine.network.load_state_dict(coarse.network.state_dict())
    x = images(64)
    a, b = coarse.patch_features(x), fine.patch_features(x)
    assert (a.shape[2], b.shape[2]) == (2, 64 // stride)
    step = 32 // stride
    assert torch.allclose(b[:, :, ::step, ::step], a, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_views_keep_gradients_and_clones_stand_alone(name: str) -> None:
    model = small(name)
    twin = model.clone()
    assert twin.prefix_tokens == model.prefix_tokens
    x = images(sides(name), 1).requires_grad_()
    model.patch_features(x).square().sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    before = model.embed(x)
    with torch.no_grad():
        for parameter in twin.network.parameters():
            parameter.zero_()
    assert torch.equal(model.embed(x), before)


def test_a_vit_without_class_token_has_no_prefix() -> None:
    model = small("vit_tiny_patch16_224", args={"class_token": False, "global_pool": "avg"})
    assert model.prefix_tokens == 0
    assert model.patch_features(images()).shape == (2, 32, 4, 4)
    assert isinstance(model.network, VisionTransformer)


def test_a_vit_takes_images_of_other_sizes_and_shapes() -> None:
    model = small("vit_tiny_patch16_224")
    x = torch.randn(1, 3, 40, 24)
    assert model.patch_features(x).shape == (1, 32, 5, 3)
    assert model.attentions(x).shape[-1] == 16
    assert model.logits(x).shape == (1, 5)
