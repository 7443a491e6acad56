"""Gini, relevance mass and rank, deletion: closed forms, published values and undefined maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.attributions import COMPLEXITY, FAITHFULNESS, attributions, faithfulness_case, undefined_maps
from kit.cases import cases
from pruningbench_interpretability import (
    area_under_curve,
    deletion_curve,
    gini,
    perturbation_curve,
    relevance_mass,
    relevance_rank,
)
from pruningbench_interpretability.faithfulness import Deletion
from pruningbench_interpretability.methods import pool
from pruningbench_interpretability.metrics import Gini, RelevanceMass, RelevanceRank
from pruningbench_interpretability.ranking import pixel_ranks
from torch import Tensor

NAN = float("nan")


# published values


@pytest.mark.parametrize(("pooling", "stored"), [("l1", "l1_norm"), ("l2-squared", "l2_norm_sq"), ("max", "max_norm")])
def test_complexity_and_localisation_equal_the_references(pooling, stored):
    maps = pool(torch.from_numpy(COMPLEXITY["attributions"]).double(), pooling)
    masks = torch.from_numpy(COMPLEXITY["masks"])
    for ours, name in (
        (gini(maps), "gini_no_epsilon"),
        (relevance_mass(maps, masks), "mass_accuracy"),
        (relevance_rank(maps, masks), "rank_accuracy"),
    ):
        np.testing.assert_allclose(ours.numpy(), COMPLEXITY[f"{name}_{stored}"], atol=1e-9)


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_deletion_equals_rise(batch_size):
    predict, images, maps, targets = faithfulness_case()
    curve = deletion_curve(predict, images, maps, targets, steps=32, batch_size=batch_size)
    np.testing.assert_allclose(curve.numpy(), FAITHFULNESS["deletion_zero_curve"], atol=1e-5)
    np.testing.assert_allclose(area_under_curve(curve).numpy(), FAITHFULNESS["deletion_zero_auc"], atol=1e-5)


def test_insertion_and_uneven_steps_equal_rise():
    predict, images, maps, targets = faithfulness_case()
    ranks, nothing = pixel_ranks(maps), torch.zeros(1, 1, 1, 1)
    by_32, by_100 = range(0, 1025, 32), [*range(0, 1024, 100), 1024]
    inserted = perturbation_curve(
        predict, nothing.expand_as(images), images, ranks=ranks, counts=by_32, targets=targets
    )
    np.testing.assert_allclose(inserted.numpy(), FAITHFULNESS["insertion_zero_curve"], atol=1e-5)
    deleted = perturbation_curve(predict, images, nothing, ranks=ranks, counts=by_100, targets=targets)
    np.testing.assert_allclose(deleted.numpy(), FAITHFULNESS["deletion_zero_step100_curve"], atol=1e-5)


# closed forms


def test_gini_of_known_maps():
    n = 20
    one_hot, uniform, ramp = torch.zeros(n), torch.full((n,), 3.0), torch.arange(1.0, n + 1)
    maps = torch.stack([one_hot, uniform, ramp, -ramp.flip(0)]).view(4, 4, 5)
    maps[0, 2, 2] = 5.0
    expected = [(n - 1) / n, 0.0, (n - 1) / (3 * n), (n - 1) / (3 * n)]
    np.testing.assert_allclose(gini(maps).numpy(), expected, atol=1e-12)


@cases(50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.floats(1e-3, 1e3))
def test_gini_is_half_the_relative_mean_difference(seed, h, w, scale):
    values = np.random.default_rng(seed).normal(size=(2, h, w))
    flat = np.abs(values).reshape(2, -1)
    expected = np.abs(flat[:, :, None] - flat[:, None]).mean((1, 2)) / (2 * flat.mean(1))
    np.testing.assert_allclose(gini(torch.from_numpy(values) * scale).numpy(), expected, atol=1e-12)


def test_mass_of_a_uniform_map_is_the_area_and_of_a_fitting_map_is_one():
    masks = torch.zeros(2, 6, 5, dtype=torch.bool)
    masks[:, 1:4, 2:4] = True
    maps = torch.stack([torch.full((6, 5), 0.3), masks[1].float() * 2])
    np.testing.assert_allclose(relevance_mass(maps, masks).numpy(), [6 / 30, 1.0], rtol=1e-6)
    assert relevance_rank(maps, masks)[1] == 1.0


def test_negative_relevance_has_no_mass():
    masks = torch.tensor([[[True, False]]])
    assert relevance_mass(torch.tensor([[[2.0, -5.0]]]), masks).tolist() == [1.0]
    assert relevance_mass(torch.tensor([[[-1.0, -5.0]]]), masks).isnan().all()


def test_rank_breaks_ties_by_index():
    masks = torch.tensor([[[False, True, True, False]], [[True, True, False, False]]])
    maps = torch.tensor([[[1.0, 1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]]])
    assert relevance_rank(maps, masks).tolist() == [0.5, 1.0]
    assert pixel_ranks(torch.tensor([[[1.0, 3.0], [3.0, 2.0]]])).tolist() == [[3, 0, 1, 2]]


def test_empty_masks_are_undefined_and_full_masks_are_one():
    maps = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 3, 3, dtype=torch.bool)
    masks[1] = True
    np.testing.assert_array_equal(relevance_mass(maps, masks).numpy(), [NAN, 1.0])
    np.testing.assert_array_equal(relevance_rank(maps, masks).numpy(), [NAN, 1.0])


def test_deletion_of_a_linear_model_is_a_sum():
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 4, 4, generator=draw, dtype=torch.float64)
    weight = torch.rand(2, 4, 4, generator=draw, dtype=torch.float64)

    def linear(x: Tensor) -> Tensor:
        return torch.stack([-(x * weight).sum((1, 2, 3)), (x * weight).sum((1, 2, 3))], 1)

    maps = (images * weight).sum(1)  # the exact contributions
    curve = deletion_curve(linear, images, maps, torch.tensor([1, 1, 0]), steps=8)
    left = maps.flatten(1).sort(dim=1).values.cumsum(1)  # sums of the k smallest contributions
    expected = torch.cat([torch.zeros(3, 1), left[:, 1::2]], 1).flip(1)
    expected[2] *= -1
    torch.testing.assert_close(curve, expected, atol=1e-12, rtol=0)


def test_deletion_steps_are_of_equal_size():
    images, maps = torch.ones(1, 1, 3, 3), torch.arange(9.0).view(1, 3, 3)
    share = deletion_curve(lambda x: x.mean((1, 2, 3))[:, None], images, maps, torch.tensor([0]), steps=4)
    np.testing.assert_allclose(share[0].numpy(), [1, 7 / 9, 5 / 9, 2 / 9, 0], rtol=1e-6)
    whole = deletion_curve(lambda x: x.mean((1, 2, 3))[:, None], images, maps, torch.tensor([0]), steps=1, baseline=3)
    np.testing.assert_allclose(whole[0].numpy(), [1, 3], rtol=1e-6)
    with pytest.raises(ValueError, match="steps"):
        deletion_curve(lambda x: x, images, maps, torch.tensor([0]), steps=0)


def test_area_under_curve():
    curves = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert area_under_curve(curves).tolist() == [1.0, 0.5, 0.25]


# components


def test_metrics_of_undefined_maps_are_nan_and_leave_the_others_alone():
    good = torch.arange(16.0).view(1, 4, 4)
    maps = torch.cat([undefined_maps(), good])
    masks = torch.zeros(4, 4, 4, dtype=torch.bool)
    masks[:, 3] = True
    outputs = attributions(maps, masks)
    for metric in (Gini(), RelevanceMass(), RelevanceRank(), Deletion(steps=4)):
        values = metric.values(outputs)
        assert values.shape == (4,)
        assert values[:3].isnan().all(), metric
        low, high = metric.range
        assert low <= float(values[3]) <= high
    assert float(RelevanceRank().values(outputs)[3]) == 1.0
    assert float(Deletion(steps=4).values(outputs)[3]) == 0.5


def test_metrics_of_no_images():
    outputs = attributions(torch.empty(0, 4, 4), torch.empty(0, 4, 4, dtype=torch.bool))
    for metric in (Gini(), RelevanceMass(), RelevanceRank(), Deletion()):
        assert metric.values(outputs).shape == (0,)


def test_localisation_applies_only_with_masks():
    maps = torch.ones(1, 2, 2)
    for metric in (RelevanceMass(), RelevanceRank()):
        assert not metric.applies(attributions(maps))
        assert metric.applies(attributions(maps, torch.ones(1, 2, 2, dtype=torch.bool)))
        with pytest.raises(ValueError, match="no object masks"):
            metric.values(attributions(maps))
    assert Gini().applies(attributions(maps))


def test_deletion_refuses_no_steps():
    assert "steps" in str(Deletion(steps=0).problem())
    assert Deletion().problem() is None
    assert not Deletion.higher_is_better
