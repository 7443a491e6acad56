"""Similarity of maps, sensitivity, infidelity, randomised networks, other classes, the dense model's maps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.interpretability import context, linear, pictures, tiny
from pruningbench_interpretability import rank_correlation, structural_similarity
from pruningbench_interpretability.sanity import (
    Infidelity,
    MapRankCorrelation,
    MapSsim,
    MaxSensitivity,
    ModelRandomisation,
    RandomLogit,
)
from pruningbench_interpretability.stability import infidelity, max_sensitivity, other_classes
from pruningbench_interpretability.task import Interpretability
from scipy.ndimage import correlate
from torch import Tensor

from pruningbench.contract import Attributions

NAN = float("nan")
SANITY = (
    MaxSensitivity(draws=3),
    Infidelity(draws=4),
    ModelRandomisation(),
    RandomLogit(),
    MapRankCorrelation(),
    MapSsim(),
)


# similarity


@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9), st.integers(2, 40))
@cases(60)
def test_rank_correlation_equals_scipy_with_ties(seed, height, width, levels):
    draw = np.random.default_rng(seed)
    first, second = draw.integers(0, levels, (2, 3, height, width)).astype(float)
    got = rank_correlation(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    for i in range(3):
        a, b = first[i].ravel(), second[i].ravel()
        if len(set(a)) == 1 or len(set(b)) == 1:
            assert np.isnan(got[i])
        else:
            assert got[i] == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)


def ssim_by_definition(a: np.ndarray, b: np.ndarray, side: int, sigma: float) -> float:
    """Wang et al.'s SSIM of two maps by scipy, without the border that a window crosses."""
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    line = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * sigma**2))
    window = np.outer(line, line) / line.sum() ** 2
    rim = slice(side // 2, -(side // 2) or None)

    def mean(x: np.ndarray) -> np.ndarray:
        return correlate(x, window)[rim, rim]

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    score = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return float(score.mean())


@pytest.mark.parametrize(("height", "width", "side"), [(20, 31, 11), (11, 11, 11), (9, 14, 9), (6, 8, 5), (1, 4, 1)])
def test_ssim_equals_its_definition(height, width, side):
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(2, 2, height, width))
    got = structural_similarity(torch.from_numpy(first), torch.from_numpy(second))
    expected = [ssim_by_definition(a, b, side, 1.5) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-10)


def test_similarity_of_equal_scaled_and_undefined_maps():
    maps = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(0))
    for measure in (rank_correlation, structural_similarity):
        torch.testing.assert_close(measure(maps, 7 * maps), torch.ones(4, dtype=torch.float64))
        broken = maps.clone()
        broken[0], broken[1, 2, 2], broken[2, 0, 0] = 0, NAN, float("inf")
        assert measure(maps, broken).isnan().tolist() == [True, True, True, False]
        assert measure(broken, maps).isnan().tolist() == [True, True, True, False]
        assert measure(maps[:0], maps[:0]).shape == (0,)
    torch.testing.assert_close(rank_correlation(maps, -maps), -torch.ones(4, dtype=torch.float64))


# captum's metrics


def test_max_sensitivity_of_a_linear_map_is_within_its_bound():
    images = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0)) + 1

    def explain(x: Tensor, _targets: Tensor) -> Tensor:
        return x.sum(1)

    targets = torch.zeros(4, dtype=torch.int64)
    found = max_sensitivity(explain, images, targets, radius=0.1, samples=20)
    bound = 0.2 * 6 / images.sum(1).flatten(1).norm(dim=1)
    assert bool((found > 0).all()) and bool((found <= bound).all())
    assert max_sensitivity(lambda x, _t: torch.ones(len(x), 6, 6), images, targets).tolist() == [0, 0, 0, 0]
    alone = max_sensitivity(explain, images[2:3], targets[2:3], radius=0.1, samples=20, index=[2])
    assert float(alone[0]) == float(found[2])
    assert max_sensitivity(explain, images, targets, radius=0.1, samples=1).shape == (4,)
    undefined = max_sensitivity(lambda x, _t: x.sum(1) * torch.tensor(NAN), images, targets)
    assert undefined.isnan().all()


def test_infidelity_of_the_gradient_of_a_linear_model_is_zero():
    model, weight = linear()
    images, targets = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1])
    exact = infidelity(model.logits, images, weight[targets], targets)
    np.testing.assert_allclose(exact.numpy(), 0, atol=1e-5)  # float32 logits
    np.testing.assert_allclose(infidelity(model.logits, images, 5 * weight[targets], targets).numpy(), 0, atol=1e-5)
    wrong = infidelity(model.logits, images, weight[(targets + 1) % 3], targets)
    assert bool((wrong > 0.1).all())
    empty = weight[targets].clone()
    empty[0], empty[1, 0, 0, 0] = 0, NAN
    got = infidelity(model.logits, images, empty, targets)
    assert got.isnan().tolist() == [True, True, False]


def test_other_classes_are_others_and_evenly_drawn():
    targets = torch.arange(4).repeat(500)
    others = other_classes(targets, 4, seed=1)
    assert bool((others != targets).all()) and set(others.tolist()) == {0, 1, 2, 3}
    counts = torch.bincount((others - targets) % 4)
    assert counts[0] == 0 and bool((counts[1:] > 560).all())
    assert torch.equal(other_classes(targets[7:9], 4, seed=1, index=[7, 8]), others[7:9])
    assert other_classes(targets[:3], 1, seed=0).tolist() == [0, 1, 2]


# components


def outputs_of(name: str = "integrated-gradients", dense: bool = True, **task: object) -> Attributions:
    fields = {"data": "pictures", "methods": (name,), "steps": 4, **task}
    found = Interpretability(**fields).run(tiny(), context(pictures(6), tiny(1) if dense else None))
    return dict(found)[name]


@pytest.mark.parametrize("metric", SANITY, ids=str)
def test_metrics_are_in_range_and_repeatable(metric):
    outputs = outputs_of()
    assert metric.applies(outputs)
    assert metric.problem() is None
    values = metric.values(outputs)
    low, high = metric.range
    assert values.shape == (6,) and bool(((values >= low) & (values <= high)).all())
    assert torch.equal(values, metric.values(outputs_of()))


@pytest.mark.parametrize("metric", SANITY, ids=str)
def test_metrics_are_undefined_on_undefined_maps(metric):
    outputs = outputs_of()
    dead = outputs.maps.clone()
    dead[0], dead[1, 0, 0] = 0, NAN

    class Explain:
        def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
            if len(images) == 6:
                return dead
            distances = (outputs.images[None] - images[:, None]).abs().amax(dim=(2, 3, 4))
            assert bool((distances.amin(dim=1) < 0.1).all())
            return dead[distances.argmin(dim=1)]

        def randomised(self, seed: int, share: float = 1.0):
            return outputs.explain.randomised(seed, share)

    signed = outputs.signed.clone()
    signed[0], signed[1] = 0, NAN
    broken = dataclasses.replace(outputs, maps=dead, signed=signed, explain=Explain(), _memo={})
    assert metric.values(broken).isnan().tolist() == [True, True, False, False, False, False]
    nothing = dataclasses.replace(
        outputs, maps=outputs.maps[:0], images=outputs.images[:0], targets=outputs.targets[:0], signed=outputs.signed[:0],
        index=(), dense_maps=lambda: outputs.maps[:0], _memo={},
    )  # fmt: skip
    assert metric.values(nothing).shape == (0,)


def test_metrics_apply_only_where_they_can():
    plain = Attributions(torch.rand(1, 2, 2), torch.rand(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64), lambda x: x)
    for metric in (MaxSensitivity(), ModelRandomisation(), RandomLogit(), MapRankCorrelation(), MapSsim()):
        assert not metric.applies(plain)
        with pytest.raises(ValueError, match="the attributions"):
            metric.values(plain)
    assert Infidelity().applies(plain)
    assert not MapSsim().applies(outputs_of(dense=False))


def test_maps_of_the_same_network_agree_with_the_dense_ones_and_are_made_once():
    samples, dense, calls = pictures(6), tiny(1), []
    forward = dense.network.forward
    dense.network.forward = lambda x: calls.append(len(x)) or forward(x)
    lent = context(samples, dense)
    task = Interpretability(data="pictures", methods=("saliency",), samples="correct")
    ((_, same),) = task.run(tiny(1), lent)
    np.testing.assert_allclose(MapRankCorrelation().values(same).numpy(), 1, atol=1e-12)
    np.testing.assert_allclose(MapSsim().values(same).numpy(), 1, atol=1e-9)
    once = sum(calls)
    ((_, other),) = task.run(tiny(0), lent)
    assert len(other.maps) != 0 and other.index != same.index
    everything = dense_maps_by_hand(dense, samples)
    torch.testing.assert_close(other.dense_maps(), everything[list(other.index)])
    assert bool((MapRankCorrelation().values(other) < 0.99).all())
    assert sum(calls) == once + 6 * 2  # the check's own: predictions and gradients


def dense_maps_by_hand(dense, samples) -> Tensor:
    images = dense.preprocessing.normalise(samples.images).requires_grad_()
    logits = dense.logits(images)
    (slope,) = torch.autograd.grad(logits.amax(1).sum(), images)
    dense.logits(images.detach())
    return slope.abs().amax(1)


def test_targets_of_a_task():
    samples, pruned, dense = pictures(6), tiny(0), tiny(1)
    images = pruned.preprocessing.normalise(samples.images)
    wanted = {
        "predicted": pruned.logits(images).argmax(1), "dense": dense.logits(images).argmax(1), "label": samples.labels,
    }  # fmt: skip
    assert len({tuple(value.tolist()) for value in wanted.values()}) == 3
    for target, expected in wanted.items():
        task = Interpretability(data="pictures", methods=("saliency",), target=target)
        ((_, got),) = task.run(pruned, context(samples, dense))
        assert torch.equal(got.targets, expected)
    elsewhere = pictures(6, classes=("right", "elsewhere"))
    ((_, got),) = Interpretability(data="pictures", methods=("saliency",), target="label").run(
        pruned, context(elsewhere)
    )
    assert got.maps.flatten(1).isnan().all(1).tolist() == [False, True] * 3


def test_randomisation_tells_a_trained_network_and_attention_from_edges():
    outputs = outputs_of("saliency")
    ours = ModelRandomisation().values(outputs)
    explain = outputs.explain.randomised(outputs.seed)
    torch.testing.assert_close(ours, rank_correlation(outputs.maps, explain(outputs.images, outputs.targets)))
    stages = [outputs.explain.randomised(outputs.seed, share)(outputs.images, outputs.targets) for share in (0.5, 1.0)]
    expected = torch.stack([structural_similarity(outputs.maps, maps) for maps in stages]).mean(0)
    torch.testing.assert_close(ModelRandomisation(similarity="ssim", stages=2).values(outputs), expected)


@pytest.mark.parametrize(
    ("metric", "word"),
    [
        (MaxSensitivity(radius=0.0), "radius"), (MaxSensitivity(draws=0), "draws"), (Infidelity(noise=0.0), "noise"),
        (Infidelity(draws=0), "draws"), (ModelRandomisation(stages=0), "stages"),
    ],
)  # fmt: skip
def test_fields_out_of_range(metric, word):
    assert word in str(metric.problem())
