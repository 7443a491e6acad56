"""Attribution methods and the interpretability task."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch
from captum.attr import IntegratedGradients
from kit.interpretability import CLASSES, Tiny, context, linear, pictures, tiny
from kit.methods import METHODS
from pruningbench_interpretability.faithfulness import Deletion
from pruningbench_interpretability.gradients import gradient, integrated_gradients
from pruningbench_interpretability.methods import attribute, pool
from pruningbench_interpretability.metrics import Gini, RelevanceMass, RelevanceRank
from pruningbench_interpretability.task import Interpretability
from torch import Tensor, nn

from pruningbench.contract import (
    ArraySamples,
    AttributionSettings,
    Preprocessing,
)
from pruningbench.errors import PruningBenchError


def settings_of(steps: int, batch_size: int, rule: str = "gausslegendre", baseline: float = 0.0) -> AttributionSettings:
    return AttributionSettings(torch.full((1, 2, 1, 1), baseline), batch_size, steps, rule)


def some_images(n: int = 5) -> Tensor:
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(2))


# methods


def test_saliency_is_the_gradient_in_any_batches():
    model, images, targets = tiny(), some_images(), torch.tensor([0, 2, 1, 1, 0])
    x = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model.logits(x).gather(1, targets[:, None]).sum(), x)
    for batch_size in (2, 100):
        got = gradient(model, images, targets, settings_of(4, batch_size))
        torch.testing.assert_close(got, expected)
        assert not got.requires_grad


@pytest.mark.parametrize("batch_size", [1, 3, 7, 16, 1000])
@pytest.mark.parametrize("rule", ["gausslegendre", "riemann_trapezoid"])
def test_integrated_gradients_equal_captum_in_any_batches(batch_size, rule):
    model, images, targets = tiny(), some_images(), torch.tensor([0, 2, 1, 1, 0])
    plain = IntegratedGradients(model.logits).attribute(images, target=targets, n_steps=6, method=rule)
    got = integrated_gradients(model, images, targets, settings_of(6, batch_size, rule))
    torch.testing.assert_close(got, plain, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("baseline", [0.0, -2.0])
def test_integrated_gradients_are_complete(baseline):
    model, images, targets = tiny(), some_images(), torch.tensor([0, 2, 1, 1, 0])
    got = integrated_gradients(model, images, targets, settings_of(200, 64, baseline=baseline))
    with torch.no_grad():
        gain = model.logits(images) - model.logits(torch.full_like(images, baseline))
    torch.testing.assert_close(got.sum((1, 2, 3)), gain.gather(1, targets[:, None])[:, 0], atol=2e-3, rtol=0)


@pytest.mark.parametrize(("steps", "batch_size"), [(6, 12), (6, 7), (6, 4)])
def test_integrated_gradients_stay_within_the_batch_size(steps, batch_size):
    model, sizes = tiny(), []
    model.network.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    integrated_gradients(model, some_images(), torch.zeros(5, dtype=torch.int64), settings_of(steps, batch_size))
    assert max(sizes) <= batch_size


def test_of_a_linear_network_both_methods_are_known():
    model, weight = linear()
    images, targets = some_images(), torch.tensor([0, 2, 1, 1, 0])
    torch.testing.assert_close(gradient(model, images, targets, settings_of(4, 8)), weight[targets])
    torch.testing.assert_close(
        integrated_gradients(model, images, targets, settings_of(4, 8)), weight[targets] * images
    )


def test_pooling_by_hand():
    attributions = torch.tensor([[[[1.0]], [[-3.0]]]])
    assert [pool(attributions, how).item() for how in ("l1", "l2-squared", "max")] == [4.0, 10.0, 3.0]


def test_attribution_leaves_network_and_images_alone_and_warns_of_nothing():
    model, images = tiny(), some_images()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("saliency", "integrated-gradients"):
            found = attribute(METHODS[name], model, images, torch.zeros(5, dtype=torch.int64), settings_of(4, 8))
            assert found.shape == (5, 2, 6, 6)
    assert not images.requires_grad
    assert all(p.requires_grad and p.grad is None for p in model.network.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.network.modules())


# task


def test_task_yields_a_variant_a_method():
    model, samples = tiny(), pictures()
    outputs = dict(Interpretability(data="pictures", exhibits=2).run(model, context(samples)))
    assert list(outputs) == ["saliency", "integrated-gradients"]
    images = model.preprocessing.normalise(samples.images)
    with torch.no_grad():
        logits = model.logits(images)
    for name, got in outputs.items():
        assert got.maps.shape == (6, 6, 6)
        assert bool((got.maps >= 0).all())
        torch.testing.assert_close(got.images, images)
        assert got.targets.tolist() == logits.argmax(1).tolist()
        assert got.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert torch.equal(got.masks, samples.masks)
        assert (got.batch_size, got.seed) == (4, 7)
        torch.testing.assert_close(got.predict(images), logits.softmax(1))
        assert not got.predict(images).requires_grad
        signed = attribute(METHODS[name], model, images, got.targets, settings_of(16, 256))
        torch.testing.assert_close(got.signed, signed, atol=1e-5, rtol=1e-4)
        expected = pool(signed, "max" if name == "saliency" else "l1")
        torch.testing.assert_close(got.maps, expected, atol=1e-5, rtol=1e-4)
        exhibit = got.exhibit
        assert exhibit.keys == ("picture-0", "picture-1")
        for i, caption in enumerate(exhibit.captions):
            predicted = CLASSES[got.targets[i]]
            assert caption == (predicted if predicted == CLASSES[i] else f"{predicted} (true {CLASSES[i]})")
        assert torch.equal(exhibit.maps, got.maps[:2])
        torch.testing.assert_close(exhibit.images, samples.images[:2] / 255, atol=1e-6, rtol=0)


def test_task_is_deterministic():
    task, data = Interpretability(data="pictures"), context(pictures())
    first, second = (dict(task.run(tiny(), data)) for _ in range(2))
    for name, outputs in first.items():
        assert torch.equal(outputs.maps, second[name].maps)
        assert torch.equal(Deletion().values(outputs), Deletion().values(second[name]))


def test_task_explains_the_images_asked_for():
    samples = pictures(12)
    pruned, dense = tiny(0), tiny(1)
    images = pruned.preprocessing.normalise(samples.images)
    with torch.no_grad():
        right = {
            "correct": pruned.logits(images).argmax(1) == samples.labels,
            "correct-dense": dense.logits(images).argmax(1) == samples.labels,
        }
    right["correct-both"] = right["correct"] & right["correct-dense"]
    assert len({tuple(expected.tolist()) for expected in right.values()}) == 3
    for which, expected in right.items():
        task = Interpretability(data="pictures", methods=("saliency",), samples=which, exhibits=100)
        ((_, got),) = task.run(pruned, context(samples, dense))
        assert 0 < len(got.maps) < 12
        torch.testing.assert_close(got.images, images[expected])
        assert torch.equal(got.masks, samples.masks[expected])
        assert got.exhibit.keys == tuple(f"picture-{i}" for i in expected.nonzero()[:, 0].tolist())
    ((_, first),) = Interpretability(data="pictures", methods=("saliency",), count=5).run(pruned, context(samples))
    torch.testing.assert_close(first.images, images[:5])


def test_dense_predictions_are_made_once():
    dense, calls = tiny(1), []
    forward = dense.network.forward
    dense.network.forward = lambda x: calls.append(len(x)) or forward(x)
    shared = context(pictures(), dense)
    task = Interpretability(data="pictures", methods=("saliency",), samples="correct-dense")
    for seed in range(3):
        list(task.run(tiny(seed), shared))
    assert sum(calls) == 6


def test_classes_are_matched_by_name():
    samples = pictures(6, classes=("right", "elsewhere"))
    ((_, got),) = Interpretability(data="pictures", methods=("saliency",)).run(tiny(), context(samples))
    assert got.labels.tolist() == [2, -1, 2, -1, 2, -1]
    assert got.exhibit.captions[1].endswith("(true elsewhere)")


def test_nothing_correct_gives_no_maps():
    samples = pictures(4, classes=("elsewhere",))
    outputs = dict(Interpretability(data="pictures", samples="correct").run(tiny(), context(samples)))
    for got in outputs.values():
        assert got.maps.shape == (0, 6, 6)
        assert got.exhibit is None
        for metric in (Gini(), RelevanceMass(), RelevanceRank(), Deletion()):
            assert metric.values(got).shape == (0,)


@pytest.mark.parametrize("weight", [0.0, float("nan")])
def test_dead_networks_are_undefined_not_fatal(weight):
    model = tiny()
    with torch.no_grad():
        model.network[3].weight.fill_(weight)
    for _, got in Interpretability(data="pictures", exhibits=1).run(model, context(pictures())):
        assert got.targets.tolist() == [got.targets[0]] * 6
        for metric in (Gini(), RelevanceMass(), RelevanceRank(), Deletion()):
            assert metric.values(got).isnan().all()


def test_without_masks_or_labels():
    plain = ArraySamples(pictures().images)
    ((_, got),) = Interpretability(data="pictures", methods=("saliency",)).run(tiny(), context(plain))
    assert got.masks is None
    assert got.labels is None
    assert "true" not in got.exhibit.captions[0]
    with pytest.raises(PruningBenchError, match="labels"):
        list(Interpretability(data="pictures", samples="correct").run(tiny(), context(plain)))
    with pytest.raises(PruningBenchError, match="dense model"):
        list(Interpretability(data="pictures", samples="correct-dense").run(tiny(), context(pictures())))


def test_black_baseline_is_a_black_image():
    model, samples = tiny(), pictures(2)
    task = Interpretability(data="pictures", methods=("integrated-gradients",), baseline="black", pooling="max")
    ((_, got),) = task.run(model, context(samples))
    black = model.preprocessing.normalise(torch.zeros(1, 2, 6, 6, dtype=torch.uint8))
    plain = IntegratedGradients(model.logits).attribute(got.images, baselines=black, target=got.targets, n_steps=16)
    torch.testing.assert_close(got.maps, plain.abs().amax(1), atol=1e-5, rtol=1e-4)


def test_images_of_several_sizes_are_refused():
    class Mixed(ArraySamples):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return dataclasses.replace(sample, image=sample.image[:, : 5 + index % 2], mask=None)

    with pytest.raises(PruningBenchError, match="all of one size"):
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
        model = Tiny(network, Preprocessing((0.0, 0.0), (1.0, 1.0)), classes=CLASSES)
        list(Interpretability(data="pictures").run(model, context(Mixed(pictures().images))))


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 1, "rule": "riemann_trapezoid"}, "steps"),
        ({"count": 0}, "count"),
        ({"methods": ()}, "methods"),
        ({"methods": ("saliency", "saliency")}, "methods"),
        ({"exhibits": -1}, "exhibits"),
    ],
)
def test_task_fields_out_of_range(changed, word):
    fine = Interpretability(data="pictures")
    assert fine.problem() is None
    assert word in str(dataclasses.replace(fine, **changed).problem())
