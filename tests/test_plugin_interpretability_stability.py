"""Sensitivity and infidelity of many images at once against captum image by image, over methods and batch sizes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.explained import VIT_ONLY, resnet, vit
from kit.interpretability import context, pictures, tiny
from kit.methods import METHODS
from kit.stability import infidelity_one_by_one, sensitivity_one_by_one
from pruningbench_interpretability.explaining import ModelExplainer
from pruningbench_interpretability.sanity import Infidelity, MaxSensitivity
from pruningbench_interpretability.stability import infidelity, max_sensitivity
from pruningbench_interpretability.task import Interpretability
from torch import Tensor

from pruningbench.contract import Attributions, AttributionSettings, VisionModel

COUNT = 5
INDEX = (3, 0, 41, 7, 8)
TARGETS = torch.tensor([0, 3, 1, 2, 0])


def explainer(name: str, batch_size: int) -> tuple[ModelExplainer, Tensor]:
    """Return a method on a network, and images; in float64, so that the size of a batch hardly changes the rounding."""
    model, side = (vit(), 16) if name in VIT_ONLY else (resnet(), 32)
    model.network.double()
    settings = AttributionSettings(
        torch.zeros(1, 3, 1, 1, dtype=torch.float64), batch_size=batch_size, steps=2, samples=2, masks=9, cells=3,
        window=16, stride=16,
    )  # fmt: skip
    images = torch.randn(COUNT, 3, side, side, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return ModelExplainer(model, METHODS[name], settings, "l1"), images


def signed(explain: ModelExplainer, images: Tensor) -> Tensor:
    found = explain.attributions(images, TARGETS)
    return found if found.ndim == 4 else found[:, None].expand_as(images)


def sizes_of(model: VisionModel) -> list[int]:
    """Return a list that gets the size of each batch that passes through the network from now on."""
    sizes: list[int] = []
    model.network.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    return sizes


def dead(maps: Tensor) -> Tensor:
    return maps.flatten(1).abs().amax(dim=1) == 0


# against captum


@pytest.mark.parametrize("name", METHODS)
@given(batch_size=st.integers(1, 24), samples=st.integers(1, 6), seed=st.integers(0, 99))
@cases(5)
def test_sensitivity_equals_captum_image_by_image(name, batch_size, samples, seed):
    explain, images = explainer(name, batch_size)
    undefined = dead(explain(images, TARGETS))
    fields = {"radius": 0.1, "samples": samples, "seed": seed, "index": INDEX}
    expected = sensitivity_one_by_one(explain, images, TARGETS, **fields).masked_fill(undefined, torch.nan)
    sizes = sizes_of(explain.model)
    got = max_sensitivity(explain, images, TARGETS, batch_size=batch_size, **fields)
    # DeepLift passes an image and the baseline together
    assert max(sizes) <= (max(batch_size, 2) if name == "deeplift" else batch_size)
    assert int(undefined.sum()) < COUNT and bool((got[~undefined] > 0).all())
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize("name", METHODS)
@given(batch_size=st.integers(1, 24), samples=st.integers(1, 20), seed=st.integers(0, 99))
@cases(5)
def test_infidelity_equals_captum_image_by_image(name, batch_size, samples, seed):
    explain, images = explainer(name, 8)
    attributions, score = signed(explain, images), explain.model.logits
    undefined = dead(attributions)
    fields = {"noise": 0.3, "samples": samples, "seed": seed, "index": INDEX, "batch_size": batch_size}
    expected = infidelity_one_by_one(score, images, attributions, TARGETS, **fields).masked_fill(undefined, torch.nan)
    sizes = sizes_of(explain.model)
    got = infidelity(score, images, attributions, TARGETS, **fields)
    assert max(sizes) <= batch_size
    assert int(undefined.sum()) < COUNT
    # one draw is predicted without error by the best factor: what is left is rounding
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-9, atol=1e-12)


# one image and many


def plain(x: Tensor, _targets: Tensor) -> Tensor:
    """Explain without a network, whose rounding may depend on the batch."""
    return x.square().sum(dim=1)


def of_pixels(x: Tensor) -> Tensor:
    return torch.stack([x[:, 0, 0, 0].square(), x[:, 1, 2, 3] * x[:, 0, 4, 4]], dim=1)


@given(
    batch_size=st.integers(1, 40), samples=st.integers(1, 12), cuts=st.sets(st.integers(1, 8)), seed=st.integers(0, 99)
)
@cases(60)
def test_an_images_value_does_not_depend_on_its_batch(batch_size, samples, cuts, seed):
    images = torch.randn(9, 2, 6, 6, generator=torch.Generator().manual_seed(seed)) + 1
    targets = torch.arange(9) % 2
    before = torch.get_rng_state()

    def sensitivity(which: range, size: int = batch_size) -> Tensor:
        return max_sensitivity(
            plain, images[which], targets[which], samples=samples, seed=seed, index=which, batch_size=size
        )

    def error(which: range, size: int = batch_size) -> Tensor:
        return infidelity(
            of_pixels, images[which], images[which] * 2, targets[which], samples=samples, seed=seed, index=which,
            batch_size=size,
        )  # fmt: skip

    parts = [range(*ends) for ends in pairwise((0, *sorted(cuts), 9))]
    for measure in (sensitivity, error):
        whole = measure(range(9))
        assert torch.equal(torch.cat([measure(part) for part in parts]), whole)
        assert torch.equal(torch.cat([measure(range(i, i + 1)) for i in range(9)]), whole)
    assert torch.equal(sensitivity(range(9), size=1), sensitivity(range(9), size=200))
    assert torch.equal(error(range(9), size=samples), error(range(9), size=200))
    assert torch.equal(torch.get_rng_state(), before)


def test_undefined_images_change_nothing_beside_them_and_cost_no_passes():
    images, targets = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(6).long()
    broken = images.clone()
    broken[1], broken[4, 0, 0, 0] = 0, float("nan")
    lines = {"batch_size": 8, "samples": 4}
    seen: list[int] = []

    def explain(x: Tensor, t: Tensor) -> Tensor:
        seen.append(len(x))
        return plain(x, t)

    def score(x: Tensor) -> Tensor:
        seen.append(len(x))
        return of_pixels(x)

    def sensitivity(x: Tensor) -> Tensor:
        return max_sensitivity(explain, x, targets, **lines)

    def error(attributions: Tensor) -> Tensor:
        return infidelity(score, images, attributions, targets, **lines)

    good = [0, 2, 3, 5]
    for measure in (sensitivity, error):
        whole = measure(images)
        assert seen == [6, 8, 8, 8]
        part = measure(broken)
        assert seen[4:] == [6, 8, 8]
        assert part.isnan().tolist() == [False, True, False, False, True, False]
        assert torch.equal(part[good], whole[good])
        seen.clear()
    nothing = torch.full_like(images, torch.nan)
    assert infidelity(score, images, nothing, targets, **lines).isnan().all() and not seen


def test_methods_that_draw_from_the_global_generator_are_repeatable():
    images, targets = torch.ones(5, 2, 6, 6), torch.zeros(5).long()

    def explain(x: Tensor, _targets: Tensor) -> Tensor:
        return torch.rand(len(x), 6, 6)

    first, second = (max_sensitivity(explain, images, targets, samples=3) for _ in range(2))
    assert torch.equal(first, second) and bool((first > 0).all())


# passes


def outputs_of(count: int, batch_size: int) -> tuple[Attributions, VisionModel]:
    model = tiny()
    task = Interpretability(data="pictures", methods=("vanilla-gradients",))
    ((_, outputs),) = task.run(model, context(pictures(count), batch_size=batch_size))
    return outputs, model


def test_passes_are_as_few_as_full_batches_allow():
    outputs, model = outputs_of(24, batch_size=16)
    sizes = sizes_of(model)
    MaxSensitivity(draws=4).values(outputs)
    # each explanation starts with a pass of one image, for the number of classes
    assert sizes == [1, 16] * 5 + [1, 8] + [1, 16] * 2
    sizes.clear()
    Infidelity(draws=4).values(outputs)
    assert sizes == [16] * 5 + [8] + [16] * 2
    sizes.clear()
    sensitivity_one_by_one(
        outputs.explain, outputs.images, outputs.targets, radius=0.02, samples=4, seed=0, index=outputs.index
    )
    assert sizes == [1, 1, 1, 4] * 24


def test_more_draws_than_a_batch_holds_pass_in_parts():
    outputs, model = outputs_of(3, batch_size=4)
    sizes = sizes_of(model)
    MaxSensitivity(draws=10).values(outputs)
    assert sizes == [1, 3] + [1, 4, 4, 2] * 3
    sizes.clear()
    Infidelity(draws=10).values(outputs)
    assert sizes == [3] + [4, 4, 2] * 3
