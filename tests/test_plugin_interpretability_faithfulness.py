"""Insertion, AOPC, pixel flipping, entropy, pointing game: published values, closed forms, components."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.attributions import COMPLEXITY, attributions, faithfulness_case, undefined_maps
from kit.cases import cases
from pruningbench_interpretability import (
    area_under_curve,
    deletion_curve,
    entropy,
    insertion_curve,
    pointing_game,
    region_perturbation_curve,
)
from pruningbench_interpretability.faithfulness import (
    Aopc,
    Deletion,
    Insertion,
    PixelFlipping,
    RoadAopc,
    RoadLerf,
    RoadMorf,
)
from pruningbench_interpretability.localisation import dilate
from pruningbench_interpretability.methods import pool
from pruningbench_interpretability.metrics import Entropy, PointingGame
from pruningbench_interpretability.perturbation import blur, mean_drop
from torch import Tensor

from pruningbench.contract import Attributions

MORE = np.load(Path(__file__).parent / "data" / "interpretability" / "faithfulness_more.npz")
NAN = float("nan")


def outputs_of(batch_size: int = 50, **other: object) -> Attributions:
    """The published network on six images, as a task would yield it."""
    predict, images, maps, targets = faithfulness_case()

    def probabilities(x: Tensor) -> Tensor:
        with torch.no_grad():
            return predict(x)

    fields = {"labels": torch.from_numpy(MORE["labels"]), "batch_size": batch_size, **other}
    return Attributions(maps, images, targets, probabilities, **fields)


# published values


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_insertion_equals_rise(batch_size):
    curve = insertion_curve(*faithfulness_case(), steps=32, batch_size=batch_size)
    np.testing.assert_allclose(curve.numpy(), MORE["insertion_blur_curve"], atol=1e-5)
    np.testing.assert_allclose(area_under_curve(curve).numpy(), MORE["insertion_blur_auc"], atol=1e-5)


def test_blur_is_the_published_kernel():
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1
    np.testing.assert_allclose(blur(point, 11, 5.0)[0, 0, 5:16, 5:16].numpy(), MORE["blur_kernel"], atol=1e-7)


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_region_perturbation_and_aopc_equal_quantus(order):
    curve = region_perturbation_curve(*faithfulness_case(), region=4, order=order, batch_size=100)
    assert curve.shape == (6, 65)
    np.testing.assert_allclose(
        (curve[:, :1] - curve[:, 1:]).numpy(), MORE[f"region_perturbation_{order}_drop"], atol=1e-5
    )
    np.testing.assert_allclose(mean_drop(curve).numpy(), MORE[f"aopc_{order}"], atol=1e-5)


@pytest.mark.parametrize(("pooling", "stored"), [("l1", "l1_norm"), ("l2-squared", "l2_norm_sq"), ("max", "max_norm")])
def test_pointing_game_equals_the_reference(pooling, stored):
    maps = pool(torch.from_numpy(COMPLEXITY["attributions"]).double(), pooling)
    got = pointing_game(maps, torch.from_numpy(COMPLEXITY["masks"]))
    np.testing.assert_array_equal(got.numpy(), MORE[f"pointing_game_hit_{stored}"])


@pytest.mark.parametrize(("pooling", "stored"), [("l1", "l1_norm"), ("l2-squared", "l2_norm_sq"), ("max", "max_norm")])
def test_entropy_equals_scipy_and_with_an_epsilon_the_published_values(pooling, stored):
    maps = pool(torch.from_numpy(COMPLEXITY["attributions"]).double(), pooling)
    np.testing.assert_allclose(entropy(maps).numpy(), scipy.stats.entropy(maps.flatten(1).numpy(), axis=1), atol=1e-12)
    np.testing.assert_allclose(entropy(maps, epsilon=1e-7).numpy(), MORE[f"entropy_{stored}"], atol=1e-9)


# closed forms


def test_entropy_of_known_maps():
    one_hot, uniform = torch.zeros(4, 5), torch.full((4, 5), 3.0)
    one_hot[1, 1] = -2
    two = torch.zeros(4, 5)
    two[0, 0], two[3, 3] = 1, 3
    got = entropy(torch.stack([one_hot, uniform, two]))
    np.testing.assert_allclose(
        got.numpy(), [0, math.log(20), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))], atol=1e-12
    )
    assert entropy(undefined_maps()).isnan().all()


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 8), st.floats(0.1, 100))
@cases(40)
def test_entropy_knows_neither_scale_nor_sign_nor_place(seed, height, width, scale):
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, height, width)))
    got = entropy(values)
    assert bool(((got >= -1e-12) & (got <= math.log(height * width) + 1e-12)).all())
    torch.testing.assert_close(entropy(-scale * values.flip(1)), got)


def test_pointing_game_ties_and_tolerance():
    maps = torch.zeros(2, 12, 12)
    maps[:, 2, 3] = maps[:, 9, 9] = 5.0
    masks = torch.zeros(2, 12, 12, dtype=torch.bool)
    masks[0, 9, 9] = masks[1, 2, 7] = True
    assert pointing_game(maps, masks).tolist() == [1, 0]
    assert pointing_game(maps, masks, ties="first").tolist() == [0, 0]
    assert pointing_game(maps, masks, tolerance=3.9).tolist() == [1, 0]
    assert pointing_game(maps, masks, tolerance=4, ties="first").tolist() == [0, 1]
    masks[:] = False
    assert pointing_game(maps, masks, tolerance=15).isnan().all()
    assert pointing_game(maps, ~masks).tolist() == [1, 1]
    assert pointing_game(undefined_maps(), torch.ones(3, 4, 4, dtype=torch.bool)).isnan().all()


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0.5, 20))
@cases(40)
def test_dilation_is_euclidean(seed, height, width, radius):
    mask = np.random.default_rng(seed).random((height, width)) < 0.1
    points = np.argwhere(mask)
    every = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 1, 2)
    square = ((every - points[None]) ** 2).sum(-1).min(1, initial=10**9).reshape(height, width)
    got = dilate(torch.from_numpy(mask)[None], radius)[0]
    np.testing.assert_array_equal(got.numpy(), square <= radius**2)


def linear_case() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 6, 4, generator=draw, dtype=torch.float64)
    weight = torch.rand(2, 6, 4, generator=draw, dtype=torch.float64)
    return images, weight, (images * weight).sum(1)


def test_aopc_and_pixel_flipping_of_a_linear_model_are_cumulative_sums():
    images, weight, maps = linear_case()

    def score(x: Tensor) -> Tensor:
        return (x * weight).sum((1, 2, 3))[:, None]

    targets = torch.zeros(3, dtype=torch.int64)
    outputs = Attributions(maps, images, targets, score, batch_size=5)
    tiles = torch.stack([maps[:, r : r + 4, c : c + 3].sum((1, 2)) for r in (0, 4) for c in (0, 3)], 1)
    dropped = tiles.sort(dim=1, descending=True).values.cumsum(1)
    region = region_perturbation_curve(score, images, maps, targets, region=4)
    assert region.shape == (3, 3)  # 6 x 4 pixels: two tiles
    whole = score(images)
    two = torch.stack([maps[:, :4].sum((1, 2)), maps[:, 4:].sum((1, 2))], 1).sort(dim=1, descending=True).values
    torch.testing.assert_close(whole - region, torch.cat([torch.zeros(3, 1), two.cumsum(1)], 1).double())
    torch.testing.assert_close(Aopc(region=4).values(outputs), two.cumsum(1).sum(1) / 3)
    assert dropped.shape == (3, 4)
    fallen = maps.flatten(1).sort(dim=1, descending=True).values.cumsum(1)
    torch.testing.assert_close(PixelFlipping(steps=24).values(outputs), fallen.mean(1))
    torch.testing.assert_close(
        Deletion(steps=24).values(outputs), whole[:, 0] - (fallen.sum(1) - fallen[:, -1] / 2) / 24
    )
    assert Aopc(region=4, regions=1).curve(outputs).values.shape == (3, 2)


def test_ties_between_regions_are_broken_by_index():
    order = []

    def watch(x: Tensor) -> Tensor:
        order.extend((x[:, 0] == 0).flatten(1).sum(1).tolist())
        order.append(int((x[1, 0] == 0).flatten().nonzero()[0]))
        return torch.ones(len(x), 1)

    maps = torch.ones(1, 4, 4)
    region_perturbation_curve(watch, torch.ones(1, 1, 4, 4), maps, torch.tensor([0]), region=2)
    assert order == [0, 4, 8, 12, 16, 0]
    with pytest.raises(ValueError, match="at least 1"):
        region_perturbation_curve(watch, torch.ones(1, 1, 4, 4), maps, torch.tensor([0]), region=0)


def test_insertion_ends_at_the_image_and_is_undefined_for_undefined_maps():
    predict, images, maps, targets = faithfulness_case()
    maps, targets = maps.clone(), targets.clone()
    maps[1], targets[2] = 0, -1
    curve = insertion_curve(predict, images, maps, targets, steps=3)
    assert curve.isnan().all(1).tolist() == [False, True, True, False, False, False]
    np.testing.assert_allclose(curve[0, -1], predict(images[:1])[0, targets[0]].item(), rtol=1e-6)
    assert deletion_curve(predict, images, maps, targets, steps=3)[2].isnan().all()


# components

FAITHFUL = (
    Deletion(), Insertion(), PixelFlipping(), Aopc(), RoadMorf(), RoadLerf(), RoadAopc(), RoadMorf(of="accuracy"),
    RoadLerf(of="agreement"),
)  # fmt: skip


@pytest.mark.parametrize("metric", [*FAITHFUL, Entropy()], ids=str)
def test_metrics_are_in_range_undefined_where_they_must_be_and_repeatable(metric):
    outputs = outputs_of(index=tuple(range(3, 9)))
    outputs.maps[1], outputs.maps[2, 0, 0] = 0, NAN
    try:
        values = metric.values(outputs)
        assert values.shape == (6,)
        assert values.isnan().tolist() == [False, True, True, False, False, False]
        low, high = metric.range
        assert bool(((values[3:] >= low) & (values[3:] <= high)).all())
        again = dataclasses.replace(outputs, _memo={})
        assert torch.equal(metric.values(again)[3:], values[3:])
        company = metric.values(outputs_of(index=tuple(range(3, 9))))
        torch.testing.assert_close(company[3:], values[3:], atol=1e-3, rtol=0)
        curve = metric.curve(outputs)
        if curve is not None:
            assert curve.values.shape == (6, len(curve.x))
            assert list(curve.x) == sorted(curve.x)
            assert curve.values[1].isnan().all()
    finally:
        outputs.maps[1] = 1


@pytest.mark.parametrize("metric", FAITHFUL, ids=str)
def test_metrics_of_no_images(metric):
    whole = outputs_of()
    nothing = Attributions(whole.maps[:0], whole.images[:0], whole.targets[:0], whole.predict, labels=whole.labels[:0])
    assert metric.values(nothing).shape == (0,)


def test_metrics_of_equal_settings_share_their_curves():
    calls = []
    plain = outputs_of()
    outputs = Attributions(
        plain.maps, plain.images, plain.targets, lambda x: calls.append(len(x)) or plain.predict(x), labels=plain.labels
    )
    RoadMorf().values(outputs)
    once = sum(calls)
    assert once == 6 * 10
    for metric in (RoadMorf(of="accuracy"), RoadMorf(of="agreement"), RoadAopc(of="accuracy")):
        metric.values(outputs)
        assert (metric.curve(outputs) is None) == isinstance(metric, RoadAopc)
    assert sum(calls) == once
    RoadLerf().values(outputs)
    assert sum(calls) == 2 * once
    calls.clear()
    Deletion().values(outputs)
    PixelFlipping().values(outputs)
    assert sum(calls) == 6 * 17


def test_road_metrics_by_hand():
    outputs = outputs_of()
    fractions = (0.1, 0.5, 0.9)
    correct = RoadMorf(fractions=fractions, of="accuracy").curve(outputs).values
    assert set(correct.unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(RoadMorf(fractions=fractions, of="accuracy").values(outputs), correct.mean(1))
    expected = ((correct[:, :1] - correct[:, 1:]).sum(1)) / 4
    torch.testing.assert_close(RoadAopc(fractions=fractions, of="accuracy").values(outputs), expected)
    assert not RoadMorf(of="accuracy").applies(attributions(torch.ones(1, 2, 2)))
    assert RoadMorf().applies(attributions(torch.ones(1, 2, 2)))
    with pytest.raises(ValueError, match="have no labels"):
        RoadMorf(of="accuracy").values(attributions(torch.rand(1, 4, 4)))


@pytest.mark.parametrize(
    ("metric", "word"),
    [
        (RoadMorf(fractions=()), "ascend"), (RoadMorf(fractions=(0.5, 0.1)), "ascend"), (RoadLerf(fractions=(0.5, 1.1)), "ascend"),
        (RoadMorf(fractions=(-0.1, 0.1)), "ascend"), (RoadMorf(fractions=(NAN,)), "ascend"), (RoadMorf(noise=-1.0), "noise"),
        (Insertion(kernel=4), "kernel"), (Insertion(sigma=0.0), "sigma"), (Insertion(steps=0), "steps"),
        (PixelFlipping(steps=0), "steps"), (Aopc(region=0), "region"), (Aopc(regions=0), "regions"),
        (PointingGame(tolerance=-1.0), "tolerance"),
    ],
)  # fmt: skip
def test_fields_out_of_range(metric, word):
    assert word in str(metric.problem())
    assert type(metric)().problem() is None
