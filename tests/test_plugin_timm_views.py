"""The four views of timm networks, each proven equal to a direct computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pruningbench_timm import TimmVisionModel
from pruningbench_timm.digits import PREPROCESSING
from pruningbench_timm.networks import small_resnet, small_vit
from pruningbench_timm.vision import classifier_names
from timm.models.resnet import Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pruningbench.contract import VisionModel
from pruningbench.errors import ViewUnavailableError


def shaken(network: nn.Module, seed: int = 0) -> VisionModel:
    """Wrap a network whose weights and norms are all random, so that no mistake can hide in a default."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return TimmVisionModel(network.eval(), PREPROCESSING, head=classifier_names(network))


def transformer(**options: Any) -> VisionTransformer:
    defaults = {
        "img_size": 16, "patch_size": 4, "in_chans": 1, "num_classes": 6, "embed_dim": 16, "depth": 2,
        "num_heads": 4, "mlp_ratio": 2, "dynamic_img_size": True,
    }  # fmt: skip
    return VisionTransformer(**{**defaults, **options})


def keys_by_hand(network: Any, images: Tensor) -> Tensor:
    """Compute the last block's keys from its weights, token by token, head by head."""
    tokens = network._pos_embed(network.patch_embed(images))
    tokens = network.norm_pre(tokens)
    for block in network.blocks[:-1]:
        tokens = block(tokens)
    last = network.blocks[-1]
    tokens = last.norm1(tokens)
    width = tokens.shape[-1]
    weight, bias = last.attn.qkv.weight[width : 2 * width], last.attn.qkv.bias
    keys = tokens @ weight.T + (0 if bias is None else bias[width : 2 * width])
    head = width // last.attn.num_heads
    parts = [last.attn.k_norm(keys[..., i * head : (i + 1) * head]) for i in range(last.attn.num_heads)]
    return torch.cat(parts, -1)[:, network.num_prefix_tokens :]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qk_norm": True},
        {"qkv_bias": False},
        {"reg_tokens": 3},
        {"class_token": False, "global_pool": "avg"},
        {"pre_norm": True, "init_values": 0.1},
    ],
)
@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_patch_features_of_a_vit_are_the_last_blocks_keys(options: dict[str, Any], size: tuple[int, int]) -> None:
    model = shaken(transformer(**options))
    images = torch.randn(3, 1, *size)
    features = model.patch_features(images)
    h, w = size[0] // 4, size[1] // 4
    assert features.shape == (3, 16, h, w)
    by_hand = keys_by_hand(model.network, images)
    for row in range(h):
        for column in range(w):
            assert torch.allclose(features[:, :, row, column], by_hand[:, row * w + column], atol=1e-5)


def test_the_hook_is_removed_even_after_an_error() -> None:
    model = shaken(transformer())
    qkv = model.network.blocks[-1].attn.qkv
    model.patch_features(torch.randn(1, 1, 16, 16))
    assert not qkv._forward_hooks
    with pytest.raises(RuntimeError):
        model.patch_features(torch.randn(1, 2, 16, 16))  # two channels where the network has one
    assert not qkv._forward_hooks


def test_views_of_a_clone_follow_the_clone() -> None:
    model = shaken(transformer())
    twin = model.clone()
    images = torch.randn(2, 1, 16, 16)
    before = model.patch_features(images)
    with torch.no_grad():
        twin.network.blocks[-1].attn.qkv.weight.zero_()
    assert torch.equal(model.patch_features(images), before)
    assert not torch.allclose(twin.patch_features(images), before)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_views_of_a_cnn(pool: str) -> None:
    network = ResNet(Bottleneck, (1, 1, 1, 1), num_classes=5, in_chans=1, channels=(4, 8, 8, 16), global_pool=pool)
    model = shaken(network)
    images = torch.randn(2, 1, 64, 96)
    caught: list[Tensor] = []
    network.layer4.register_forward_hook(lambda _m, _i, output: caught.append(output))
    features = model.patch_features(images)
    assert torch.equal(features, caught[0])
    assert features.shape == (2, 64, 2, 3)
    pooled = features.mean((2, 3)) if pool == "avg" else features.amax((2, 3))
    assert torch.allclose(model.embed(images), pooled, atol=1e-5)
    assert torch.allclose(model.logits(images), pooled @ network.fc.weight.T + network.fc.bias, atol=1e-4)


def test_embedding_of_a_vit_is_the_normed_class_token() -> None:
    model = shaken(transformer(reg_tokens=2))
    images = torch.randn(2, 1, 16, 16)
    network: Any = model.network
    token = network.norm(network.blocks(network._pos_embed(network.patch_embed(images))))[:, 0]
    assert torch.allclose(model.embed(images), token, atol=1e-5)
    assert torch.allclose(model.logits(images), token @ network.head.weight.T + network.head.bias, atol=1e-5)


def test_head_split_of_a_cnn_composes_to_the_logits() -> None:
    model = shaken(small_resnet(6, (4, 8, 8, 8), 4))
    activations, head = model.head_split()
    images = torch.randn(3, 1, 36, 36)
    stage = activations(images)
    assert stage.shape == (3, 8, 9, 9)
    assert float(stage.detach().min()) >= 0
    assert torch.allclose(head(stage), model.logits(images), atol=1e-6)


def test_views_that_do_not_exist_say_so() -> None:
    with pytest.raises(ViewUnavailableError, match="both signs"):
        shaken(transformer()).head_split()
    with pytest.raises(ViewUnavailableError, match="divisible"):
        shaken(transformer()).patch_features(torch.zeros(1, 1, 18, 16))
    signed = shaken(ResNet(Bottleneck, (1, 1, 1, 1), num_classes=2, in_chans=1, channels=(4,) * 4, act_layer=nn.SiLU))
    activations, _ = signed.head_split()
    with pytest.raises(ViewUnavailableError, match="negative"):
        activations(torch.randn(1, 1, 64, 64))
    unfused = transformer()
    unfused.blocks[-1].attn.qkv = nn.Identity()
    with pytest.raises(ViewUnavailableError, match="query-key-value"):
        shaken(unfused).patch_features(torch.zeros(1, 1, 16, 16))


def test_views_keep_gradients() -> None:
    for network in (transformer(), small_resnet(6, (4, 4, 4, 4), 4)):
        model = shaken(network)
        for view in (model.logits, model.embed, model.patch_features):
            images = torch.randn(1, 1, 16, 16, requires_grad=True)
            view(images).square().sum().backward()
            assert images.grad is not None
            assert float(images.grad.abs().sum()) > 0


def test_both_networks_take_digits_and_scenes_at_stride_four() -> None:
    for network in (small_resnet(6, (4, 8, 8, 8), 4), small_vit(6, 36, 16, 1, 2)):
        model = shaken(network)
        for size in (24, 36):
            assert model.patch_features(torch.zeros(1, 1, size, size)).shape[2:] == (size // 4, size // 4)
            assert model.logits(torch.zeros(2, 1, size, size)).shape == (2, 6)
    assert all(c.dilation == (1, 1) for c in small_resnet(6, (4, 8, 8, 8), 4).modules() if isinstance(c, nn.Conv2d))
