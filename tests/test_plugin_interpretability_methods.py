"""Attribution methods: published values, captum's own, closed forms, refusals and dead networks."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.explained import PREPROCESSING, VIT_ONLY, resnet, seeded, vit
from kit.methods import METHODS
from pruningbench_interpretability import attention_rollout
from pruningbench_interpretability.attention import rollout
from pruningbench_interpretability.explaining import ModelExplainer
from pruningbench_interpretability.masking import random_masks
from pruningbench_interpretability.methods import attribute, pool
from pruningbench_interpretability.settings import Logits, out_of_place
from pruningbench_interpretability.task import Interpretability
from torch import Tensor, nn

from pruningbench.contract import AttributionSettings, VisionModel
from pruningbench.errors import PruningBenchError, ViewUnavailableError

DATA = Path(__file__).parent / "data" / "interpretability"
ATTENTION = np.load(DATA / "attention.npz")
ON_MAPS = ("grad-cam", "occlusion", "rise", "attention-rollout", "last-attention")


class Plain(VisionModel):
    """A network without views."""


def linear(weight: Tensor) -> Plain:
    network = nn.Sequential(nn.Flatten(), nn.Linear(weight[0].numel(), len(weight), bias=False))
    network[1].weight.data = weight.flatten(1).clone()
    return Plain(network.eval(), PREPROCESSING, classes=tuple("abcdefgh"[: len(weight)]))


def images_of(n: int, side: int = 32, seed: int = 5) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def settings_of(**fields) -> AttributionSettings:
    return AttributionSettings(
        **{"baseline": torch.zeros(1, 3, 1, 1), "batch_size": 4, "steps": 4, "samples": 3, "masks": 40, **fields}
    )


TARGETS = torch.tensor([0, 3, 1, 2, 0])


# every method


@pytest.mark.parametrize("name", METHODS)
def test_methods_do_not_depend_on_batches_and_leave_no_trace(name):
    model, side = (vit(), 16) if name in VIT_ONLY else (resnet(), 32)
    images = images_of(5, side)
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    flags = [getattr(module, "inplace", None) for module in model.network.modules()]
    whole = attribute(METHODS[name], model, images, TARGETS, settings_of(batch_size=64))
    for batch_size in (1, 3):
        part = attribute(METHODS[name], model, images, TARGETS, settings_of(batch_size=batch_size))
        torch.testing.assert_close(part, whole, atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(
        attribute(METHODS[name], model, images[2:3], TARGETS[2:3], settings_of()), whole[2:3], atol=2e-5, rtol=1e-3
    )
    assert whole.shape == ((5, side, side) if name in ON_MAPS else (5, 3, side, side))
    assert float(whole.abs().max()) > 0
    assert not whole.requires_grad
    assert torch.equal(whole, attribute(METHODS[name], model, images, TARGETS, settings_of(batch_size=64)))
    assert all(torch.equal(before[key], value) for key, value in model.network.state_dict().items())
    assert flags == [getattr(module, "inplace", None) for module in model.network.modules()]
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in model.network.modules())
    assert not images.requires_grad


@pytest.mark.parametrize("name", METHODS)
def test_no_batch_is_larger_than_allowed(name):
    model, side = (vit(), 16) if name in VIT_ONLY else (resnet(), 32)
    sizes = []
    handle = model.network.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    attribute(METHODS[name], model, images_of(5, side), TARGETS, settings_of(batch_size=4, samples=9, steps=7))
    handle.remove()
    assert 0 < max(sizes) <= 4


@pytest.mark.parametrize("name", [n for n in METHODS if n not in VIT_ONLY])
@pytest.mark.parametrize("weight", [0.0, float("nan")])
def test_dead_networks_give_maps_of_zeros_or_nan(name, weight):
    model = resnet()
    with torch.no_grad():
        model.network.fc.weight.fill_(weight)
    maps = pool(attribute(METHODS[name], model, images_of(2), TARGETS[:2], settings_of()), "l1")
    flat = maps.flatten(1)
    if weight == 0 and name == "rise":  # probabilities stay what they are
        assert bool((flat > 0).any())
    else:
        assert bool(((flat == 0) | flat.isnan()).all())


@pytest.mark.parametrize("name", ["saliency", "grad-cam", "rise", "occlusion", "deeplift"])
def test_classes_out_of_range_are_undefined_one_by_one(name):
    model, images = resnet(), images_of(3)
    got = attribute(METHODS[name], model, images, torch.tensor([4, 1, -1]), settings_of())
    assert bool(got[[0, 2]].isnan().all())
    torch.testing.assert_close(got[1:2], attribute(METHODS[name], model, images[1:2], TARGETS[2:3], settings_of()))


def test_of_a_linear_network_all_methods_are_known():
    weight = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    model, images, targets = linear(weight), images_of(4, 8), torch.tensor([0, 2, 1, 1])
    chosen, base = weight[targets], torch.full((1, 3, 1, 1), 0.3)
    given = settings_of(baseline=base, window=2, stride=2, samples=4000, noise=0.05, batch_size=1000)
    rise = chosen * (images - base)
    blocks = torch.nn.functional.avg_pool2d(rise, 2).sum(1) * 4
    expected = {
        "vanilla-gradients": chosen,
        "smoothgrad": chosen,
        "integrated-gradients": rise,
        "deeplift": rise,
        "occlusion": blocks.repeat_interleave(2, 1).repeat_interleave(2, 2),
    }
    for name, value in expected.items():
        torch.testing.assert_close(attribute(METHODS[name], model, images, targets, given), value, atol=1e-4, rtol=1e-4)
    shap = attribute(METHODS["gradient-shap"], model, images, targets, given)
    assert float((shap - rise).abs().max()) < 0.01


# against captum


def test_grad_cam_equals_captum():
    model, images = resnet(), images_of(5)
    with out_of_place(model.network):
        peer = captum.attr.LayerGradCam(Logits(model), model.network.layer4)
        cells = peer.attribute(images, target=TARGETS, relu_attributions=True)
    large = torch.nn.functional.interpolate(cells, (32, 32), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(attribute(METHODS["grad-cam"], model, images, TARGETS, settings_of()), large.detach())


def test_guided_grad_cam_equals_captum():
    model, images = resnet(), images_of(5)
    with out_of_place(model.network), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        peer = captum.attr.GuidedGradCam(Logits(model), model.network.layer4)
        expected = peer.attribute(images, target=TARGETS, interpolate_mode="bilinear")
    got = attribute(METHODS["guided-grad-cam"], model, images, TARGETS, settings_of())
    torch.testing.assert_close(got, expected.detach(), atol=1e-6, rtol=1e-4)


def test_smoothgrad_equals_captum_on_the_same_noise(monkeypatch):
    model, images = resnet(), images_of(2)
    draw = torch.Generator().manual_seed(0)
    noise = torch.stack([torch.randn(3, 32, 32, generator=draw) for _ in range(3)])
    got = {}
    monkeypatch.setattr("pruningbench_interpretability.gradients.generator_for",
                        lambda *_parts: torch.Generator().manual_seed(0))  # fmt: skip
    for name in ("smoothgrad", "smooth-integrated-gradients"):
        got[name] = attribute(METHODS[name], model, images, TARGETS[:2], settings_of(noise=0.4))
    monkeypatch.setattr(torch, "normal", lambda _mean, std: (noise * 0.4).repeat(2, 1, 1, 1) * (std > 0))
    for name, inner, extra in (
        ("smoothgrad", captum.attr.Saliency(model.logits), {"abs": False}),
        ("smooth-integrated-gradients", captum.attr.IntegratedGradients(model.logits), {"n_steps": 4}),
    ):
        tunnel = captum.attr.NoiseTunnel(inner)
        peer = tunnel.attribute(images, nt_samples=3, stdevs=0.4, target=TARGETS[:2], **extra)
        torch.testing.assert_close(got[name], peer.detach(), atol=1e-6, rtol=1e-3)


def test_gradient_shap_equals_captum_on_the_same_draws(monkeypatch):
    model, images = resnet(), images_of(2)
    draw, noise, shares = torch.Generator().manual_seed(0), [], []
    for _ in range(3):
        noise.append(torch.randn(3, 32, 32, generator=draw) * 0.4)
        shares.append(torch.rand((), generator=draw).item())
    monkeypatch.setattr("pruningbench_interpretability.gradients.generator_for",
                        lambda *_parts: torch.Generator().manual_seed(0))  # fmt: skip
    base = torch.full((1, 3, 1, 1), -0.3)
    got = attribute(METHODS["gradient-shap"], model, images, TARGETS[:2], settings_of(noise=0.4, baseline=base))
    monkeypatch.setattr(torch, "normal", lambda _mean, std: torch.stack(noise).repeat(2, 1, 1, 1) * (std > 0))
    monkeypatch.setattr(np.random, "uniform", lambda *_args: np.array(shares * 2))
    peer = captum.attr.GradientShap(model.logits).attribute(
        images, base.expand(1, 3, 32, 32).contiguous(), n_samples=3, stdevs=0.4, target=TARGETS[:2]
    )
    torch.testing.assert_close(got, peer.detach().float(), atol=1e-5, rtol=1e-3)


def test_deeplift_adds_up_on_a_relu_network():
    model, images = resnet(), images_of(5)
    got = attribute(METHODS["deeplift"], model, images, TARGETS, settings_of())
    with torch.no_grad():
        rise = (model.logits(images) - model.logits(torch.zeros(1, 3, 32, 32))).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(got.sum((1, 2, 3)), rise, atol=1e-4, rtol=1e-3)


# refusals


def test_what_an_architecture_does_not_allow_is_refused():
    with pytest.raises(ViewUnavailableError, match="deeplift has no rule for the attention of VisionTransformer"):
        attribute(METHODS["deeplift"], vit(), images_of(1, 16), TARGETS[:1], settings_of())
    with pytest.raises(ViewUnavailableError, match="needs ReLUs, but VisionTransformer has none"):
        attribute(METHODS["guided-grad-cam"], vit(), images_of(1, 16), TARGETS[:1], settings_of())
    for name in VIT_ONLY:
        with pytest.raises(ViewUnavailableError, match="ResNet has no attention view"):
            attribute(METHODS[name], resnet(), images_of(1), TARGETS[:1], settings_of())
    with pytest.raises(ViewUnavailableError, match="Sequential has no activation view"):
        attribute(METHODS["grad-cam"], linear(torch.ones(2, 3, 8, 8)), images_of(1, 8), TARGETS[:1], settings_of())


def test_deeplift_is_refused_where_it_does_not_add_up():
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.LayerNorm(288), nn.Linear(288, 4))

    model = Plain(seeded(make), PREPROCESSING)
    with pytest.raises(
        ViewUnavailableError, match="deeplift's attributions differ from the logit difference of Sequential by"
    ):
        attribute(METHODS["deeplift"], model, 3 * images_of(3, 8), TARGETS[:3], settings_of())


# attention


def test_rollout_equals_the_reference():
    attentions = torch.from_numpy(ATTENTION["vit_attention_head_mean"]).transpose(0, 1)[:, :, None]
    got = attention_rollout(attentions)
    np.testing.assert_allclose(got.numpy(), ATTENTION["vit_rollout_cls_to_patches_8x8"].reshape(-1, 64), atol=1e-5)
    rows = rollout(attentions).sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows))


def test_attention_maps_lie_on_the_image_patch_by_patch():
    model, images = vit(reg_tokens=2), images_of(3, 16)
    attentions = model.attentions(images)
    flows = {"attention-rollout": rollout(attentions), "last-attention": attentions[-1].mean(1)}
    for name, flow in flows.items():
        cells = flow[:, 0, 3:].view(3, 1, 4, 4)
        expected = torch.nn.functional.interpolate(cells, (16, 16), mode="bilinear")[:, 0]
        torch.testing.assert_close(attribute(METHODS[name], model, images, TARGETS[:3], settings_of()), expected)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(2, 7), st.integers(0, 99))
@cases(25)
def test_rollout_is_a_product_of_stochastic_matrices(layers, batch, heads, tokens, seed):
    draw = np.random.default_rng(seed)
    attentions = draw.dirichlet(np.ones(tokens), (layers, batch, heads, tokens))
    expected = np.stack([np.eye(tokens)] * batch)
    for block in attentions:
        expected = (block.mean(1) / 2 + np.eye(tokens) / 2) @ expected
    got = attention_rollout(torch.from_numpy(attentions))
    np.testing.assert_allclose(got.numpy(), expected[:, 0, 1:], atol=1e-12)


def test_attention_without_class_token_and_on_oblong_images():
    model = vit(class_token=False, global_pool="avg", img_size=(16, 24))
    images = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    got = attribute(METHODS["last-attention"], model, images, TARGETS[:2], settings_of())
    cells = model.attentions(images)[-1].mean(1).mean(1).view(2, 1, 4, 6)
    torch.testing.assert_close(got, torch.nn.functional.interpolate(cells, (16, 24), mode="bilinear")[:, 0])


def test_grad_cam_of_a_transformer_by_definition():
    model, images = vit(), images_of(3, 16)
    kept = []
    handle = model.network.blocks[-1].norm1.register_forward_hook(lambda _m, _i, output: kept.append(output))
    logits = model.logits(images.clone().requires_grad_())
    handle.remove()
    (slope,) = torch.autograd.grad(logits.gather(1, TARGETS[:3, None]).sum(), kept[0])
    tokens, weights = kept[0].detach()[:, 1:], slope[:, 1:].mean(1, keepdim=True)
    cells = (tokens * weights).sum(2).relu().view(3, 1, 4, 4)
    expected = torch.nn.functional.interpolate(cells, (16, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(attribute(METHODS["grad-cam"], model, images, TARGETS[:3], settings_of()), expected)


# RISE


def test_random_masks_show_half_of_the_image_and_are_numbered():
    masks = random_masks(300, 20, 33, 7, seed=1)
    assert masks.shape == (300, 20, 33) and float(masks.min()) >= 0 and float(masks.max()) <= 1
    assert abs(float(masks.mean()) - 0.5) < 0.02
    assert torch.equal(random_masks(5, 20, 33, 7, seed=1, start=10), masks[10:15])
    assert not torch.equal(random_masks(5, 20, 33, 7, seed=2), masks[:5])


def test_rise_finds_the_only_pixels_that_matter():
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            lit = x[:, 0, :4, :4].mean((1, 2))
            return torch.stack([4 * lit - 2, 2 - 4 * lit], 1)

    network = nn.Sequential(Corner(), nn.Linear(2, 2, bias=False))
    network[1].weight.data = torch.eye(2)
    model = Plain(network, PREPROCESSING)
    maps = attribute(
        METHODS["rise"], model, torch.ones(1, 3, 16, 16), torch.tensor([0]), settings_of(masks=400, batch_size=64)
    )
    inside = float(maps[0, :4, :4].mean())
    assert inside > 1.2 * float(maps[0, 8:, 8:].mean())
    again = attribute(
        METHODS["rise"], model, torch.ones(1, 3, 16, 16), torch.tensor([0]), settings_of(masks=33, batch_size=5)
    )
    masks = random_masks(33, 16, 16, 7, seed=0)
    seen = model.logits(masks[:, None].expand(-1, 3, -1, -1)).softmax(1)[:, 0]
    torch.testing.assert_close(again[0], (seen[:, None, None] * masks).sum(0) / (33 * 0.5), atol=1e-5, rtol=1e-4)


# pooling, explainers, task


def test_pooling_by_hand():
    attributions = torch.tensor([[[[1.0]], [[-3.0]]], [[[2.0]], [[2.0]]]])
    found = {how: pool(attributions, how)[:, 0, 0].tolist() for how in ("l1", "l2-squared", "max", "sum", "positive")}
    assert found == {"l1": [4, 4], "l2-squared": [10, 8], "max": [3, 2], "sum": [-2, 4], "positive": [0, 4]}
    maps = torch.tensor([[[-1.0]]])
    assert pool(maps, "l1") is maps


def test_saliency_takes_the_largest_channel_whatever_the_pooling():
    model, images = resnet(), images_of(2)
    explain = {
        name: ModelExplainer(model, METHODS[name], settings_of(), "l2-squared")
        for name in ("saliency", "vanilla-gradients")
    }
    signed = attribute(METHODS["vanilla-gradients"], model, images, TARGETS[:2], settings_of())
    torch.testing.assert_close(explain["saliency"](images, TARGETS[:2]), signed.abs().amax(1))
    torch.testing.assert_close(explain["vanilla-gradients"](images, TARGETS[:2]), signed.square().sum(1))


def test_randomised_networks_share_no_weights_with_the_trained_one():
    model = resnet()
    with torch.no_grad():
        model.network.layer1[0].conv1.weight[:4] = 0  # pruned
    explain = ModelExplainer(model, METHODS["vanilla-gradients"], settings_of(), "l1")
    twin = explain.randomised(3).model.network
    assert bool((twin.layer1[0].conv1.weight != 0).all())
    assert not torch.equal(twin.fc.weight, model.network.fc.weight)
    assert torch.equal(twin.fc.weight, explain.randomised(3).model.network.fc.weight)
    last = explain.randomised(3, share=0.5).model.network
    assert torch.equal(last.conv1.weight, model.network.conv1.weight)
    assert torch.equal(last.bn1.running_var, model.network.bn1.running_var)
    assert not torch.equal(last.fc.weight, model.network.fc.weight)
    assert bool((model.network.layer1[0].conv1.weight[:4] == 0).all())


def test_every_method_says_what_it_is_and_where_it_comes_from():
    assert len(METHODS) == 13
    for name, method in METHODS.items():
        assert "Source" in (type(method).__doc__ or ""), name
        assert not dataclasses.fields(method), name


def test_unsupported_methods_are_refused_or_skipped():
    from kit.interpretability import context

    from pruningbench.contract import ArraySamples

    images = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    notes, lent = [], context(ArraySamples(images))
    lent.report = notes.append
    task = Interpretability(data="pictures", methods=("last-attention", "saliency"))
    with pytest.raises(PruningBenchError, match="attention"):
        list(task.run(resnet(), lent))
    skipping = dataclasses.replace(task, unsupported="skip")
    assert [name for name, _ in skipping.run(resnet(), lent)] == ["saliency"]
    assert notes == ["last-attention is skipped: ResNet has no attention view"]
