"""Normalised cuts (TokenCut, MaskCut), FOUND's background, and the metrics of several objects and of masks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from kit.cases import cases
from kit.discovery import Patchy, Transformer, context, scenes
from pruningbench_discovery import detections, found_background, maskcut, tokencut
from pruningbench_discovery.affinity import resembling, unit_rows
from pruningbench_discovery.features import attention_to_patches, patches_of
from pruningbench_discovery.grid import largest_component, pixels_of
from pruningbench_discovery.metrics import BestIoU, CorLoc, DetectionRate, MaskIoU
from pruningbench_discovery.normalised_cut import tokencut_regions
from pruningbench_discovery.spectral import second_eigenvectors
from pruningbench_discovery.task import Discovery
from scipy import ndimage
from torch import Tensor, nn

from pruningbench.contract import ArraySamples, Boxes, Preprocessing
from pruningbench.contract.statistics import bootstrap

TOKENCUT = np.load(Path(__file__).parent / "data" / "discovery" / "tokencut.npz")
NAN = float("nan")
HALF = Preprocessing((0.5,), (0.5,))


def dense_vector(connected: np.ndarray, weak: float = 1e-5) -> tuple[np.ndarray, float]:
    """The generalised eigenvector from its definition, and the relative gap to the next eigenvalue."""
    affinity = np.where(connected, 1.0, weak)
    degree = np.diag(affinity.sum(axis=1))
    values, vectors = scipy.linalg.eigh(degree - affinity, degree)
    return vectors[:, 1], min(values[2] - values[1], values[1])


def planted(seed: int, h: int, w: int, dimensions: int = 24, noise: float = 1.0) -> Tensor:
    """Features with a background direction and an object's in a random rectangle, (h * w, D)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(2, dimensions))
    inside = np.zeros((h, w), dtype=np.int64)
    top, left = rng.integers(0, h - 2), rng.integers(0, w - 2)
    inside[top : top + rng.integers(2, h), left : left + rng.integers(2, w)] = 1
    return torch.from_numpy(centres[inside.ravel()] + noise * rng.normal(size=(h * w, dimensions)))


# eigenvectors


@cases(25)
@given(st.integers(0, 2**32 - 1), st.integers(3, 17), st.integers(3, 13), st.floats(0.3, 1.5))
def test_tokencut_equals_dense_eigh(seed, h, w, noise):
    features = planted(seed, h, w, noise=noise)
    unit = features / features.norm(dim=1, keepdim=True)
    connected = (unit @ unit.T > 0.2).numpy()
    vector, gap = dense_vector(connected)
    above = vector > vector.mean()
    order = np.sort(np.abs(vector))
    margin = min(np.abs(vector - vector.mean()).min(), order[-1] - order[-2]) / order[-1]
    assume(gap > 1e-6 and margin > 1e-7)  # else the definition leaves the box to rounding
    seed_patch = int(np.abs(vector).argmax())
    expected = above if above[seed_patch] else ~above
    boxes, foreground = tokencut(features[None], (h, w), 8, (8 * h - 3, 8 * w - 5))
    np.testing.assert_array_equal(foreground[0].numpy(), expected.reshape(h, w))
    labels, _ = ndimage.label(expected.reshape(h, w))
    rows, columns = np.nonzero(labels == labels.flat[seed_patch])
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    limits = [8 * w - 5, 8 * h - 3] * 2
    assert boxes[0].tolist() == [min(8.0 * edge, limit) for edge, limit in zip(edges, limits, strict=True)]


@pytest.mark.parametrize("case", range(4))
def test_tokencut_equals_the_original(case):
    features = torch.from_numpy(TOKENCUT[f"features_{case}"]).float()[None]
    grid, size = tuple(TOKENCUT["grid_hw"][case].tolist()), tuple(TOKENCUT["image_size_hw"][case].tolist())
    boxes, foreground = tokencut(features, grid, int(TOKENCUT["patch_size"][case]), size)
    assert boxes[0].tolist() == TOKENCUT["box_xyxy"][case].tolist()
    np.testing.assert_array_equal(foreground[0].numpy(), TOKENCUT[f"foreground_{case}"])
    np.testing.assert_array_equal(tokencut_regions(features, grid)[1][0].numpy(), TOKENCUT[f"component_{case}"])
    vector = second_eigenvectors(resembling(unit_rows(features), 0.2), 1e-5)[0].numpy()
    published = TOKENCUT[f"eigenvector_{case}"].ravel() / np.linalg.norm(TOKENCUT[f"eigenvector_{case}"])
    np.testing.assert_allclose(vector * np.sign(vector @ published), published, atol=1e-6)


def test_images_of_a_batch_do_not_depend_on_each_other():
    features = torch.stack([planted(seed, 12, 13) for seed in range(5)])
    together = second_eigenvectors(resembling(unit_rows(features), 0.2), 1e-5)
    for i, one in enumerate(features):
        alone = second_eigenvectors(resembling(unit_rows(one[None]), 0.2), 1e-5)[0]
        torch.testing.assert_close(together[i], alone, atol=1e-9, rtol=0)


def test_lanczos_that_does_not_converge_falls_back(monkeypatch):
    connected = resembling(unit_rows(planted(3, 12, 13, noise=2.0)[None]), 0.2)
    expected = second_eigenvectors(connected, 1e-5)
    monkeypatch.setattr("pruningbench_discovery.spectral._STEPS", 8)
    fallen = second_eigenvectors(connected, 1e-5)
    agreement = (expected[0] @ fallen[0]).abs()
    assert float(agreement) == pytest.approx(1.0, abs=1e-9)


def test_islands_are_found_whatever_the_start():
    # two cliques of 100 and 60 patches without a link: the second eigenvector is constant on each
    connected = torch.block_diag(torch.ones(100, 100), torch.ones(60, 60)).bool()[None]
    vector = second_eigenvectors(connected, 1e-5)[0]
    assert float(vector[:100].std()) < 1e-9
    assert float(vector[100:].std()) < 1e-9
    assert vector[0] * vector[100] < 0
    assert abs(vector[100]) > abs(vector[0])


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_resemblance_within_the_rounding_of_float32_is_exact(precision):
    # cosines of .2 + 1e-9 and .2 - 1e-9 to the first patch
    above, below = (np.arccos(0.2 + shift) for shift in (1e-9, -1e-9))
    features = torch.tensor([[[1.0, 0.0], [np.cos(above), np.sin(above)], [np.cos(below), -np.sin(below)]]])
    features = features.double()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        expected = [[True, True, False], [True, True, False], [False, False, True]]
        assert resembling(unit_rows(features), 0.2)[0].tolist() == expected  # most are in doubt
        wide = torch.zeros(1, 40, 39, dtype=torch.float64)
        wide[:, :3, :2] = features
        wide[0, 3:, 2:] = torch.eye(37)
        few = resembling(unit_rows(wide), 0.2)[0]
        assert few[:3, :3].tolist() == expected
        assert torch.equal(few[3:], torch.eye(40).bool()[3:])
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("method", [tokencut, maskcut])
def test_nothing_to_cut_is_no_box(method):
    features = torch.stack([planted(0, 4, 5)] * 4)
    features[1, 3, 2] = NAN
    features[2] = 0.0
    features[3] = 1.0
    boxes, regions = method(features, (4, 5), 2, (8, 10))
    boxes = boxes.reshape(4, -1, 4)
    assert boxes[1:].isnan().all()
    assert not regions[1:].any()
    alone = method(features[:1], (4, 5), 2, (8, 10))[0].reshape(-1, 4)
    np.testing.assert_array_equal(boxes[0].numpy(), alone.numpy())
    assert not boxes[0, 0].isnan().any()
    none = method(features[:0], (4, 5), 2, (8, 10))
    assert [len(part) for part in none] == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"), [({"grid": (4, 4)}, "N = 4"), ({"tau": 1.5}, "tau"), ({"objects": 0}, "objects")]
)
def test_cuts_refuse(arguments, message):
    given = {"grid": (4, 5), "patch_size": 1, "image_size": (4, 5), **arguments}
    with pytest.raises(ValueError, match=message):
        maskcut(torch.ones(1, 20, 3), **given)


# several objects


def test_maskcut_finds_two_planted_objects():
    features = torch.zeros(10, 12, 3, dtype=torch.float64)
    features[..., 0] = 1.0
    features[1:4, 1:5] = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    features[6:9, 8:11] = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    boxes, masks = maskcut(features.view(1, 120, 3), (10, 12), 10, (100, 120), objects=3)
    found = {tuple(box.tolist()) for box in boxes[0] if not box.isnan().any()}
    assert (10.0, 10.0, 50.0, 40.0) in found
    assert (80.0, 60.0, 110.0, 90.0) in found
    assert int(masks[0].sum(dim=0).max()) == 1  # no patch is in two


def test_a_side_with_three_corners_is_background():
    # the small rim patches have the largest entries, but the border is no object
    features = torch.zeros(8, 8, 2, dtype=torch.float64)
    features[..., 1] = 1.0
    features[2:7, 1:7] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    _, masks = maskcut(features.view(1, 64, 2), (8, 8), 1, (8, 8), objects=1)
    assert int(masks[0, 0].sum()) == 30
    _, foreground = tokencut(features.view(1, 64, 2), (8, 8), 1, (8, 8))
    assert int(foreground.sum()) in (30, 34)


def test_detection_rate_counts_all_boxes():
    a, b = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[10.0, 0.0, 14.0, 4.0]])
    both = torch.cat([a, b])
    predicted = [both, b, torch.empty(0, 4), a, torch.cat([a, a + 0.1])]
    truth = [both, both, a, torch.empty(0, 4), a]
    assert detections(predicted, truth).tolist() == [2, 1, 0, 0, 1]
    values = DetectionRate().values(Boxes(predicted, truth)).numpy()
    np.testing.assert_array_equal(values, [[2, 2], [1, 2], [0, 1], [NAN, NAN], [1, 1]])
    estimate = bootstrap(values, DetectionRate().aggregate, resamples=50)
    assert estimate.value == pytest.approx(4 / 6)
    assert (estimate.n, estimate.undefined) == (4, 1)
    assert DetectionRate(threshold=0.0).problem() is not None


# background


def test_background_by_hand():
    # the first head attends to patch 1 alone, the second to all but the first
    attention = torch.tensor([[[0.1, 0.9, 0.1, 0.1], [0.1, 0.3, 0.3, 0.4]]])
    features = torch.tensor([[[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [1.0, 0.1, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]])
    background = found_background(features, (2, 2), attention)
    assert background.tolist() == [[[True, False], [True, False]]]
    # weights: above the mean .2875 is 1 of 4, and 3 of 4: log 4 and log 4/3
    mixed = features.clone()
    mixed[0, 2] = torch.tensor([0.0, 1.0, 1.0, 0.0])  # unlike in the first head, alike in the second
    weights = np.log([4, 4 / 3]) ** 2
    cosine = weights[1] / weights.sum()
    assert bool(found_background(mixed, (2, 2), attention, tau=cosine - 1e-6)[0, 1, 0])
    assert not bool(found_background(mixed, (2, 2), attention, tau=cosine + 1e-6)[0, 1, 0])


def test_background_at_the_edges():
    attention, features = torch.rand(3, 1, 6), torch.rand(3, 6, 4)
    features[0, 0, 0] = NAN
    features[1] = 0.0
    attention[2, 0, 3] = NAN
    assert found_background(features, (2, 3), attention).all()  # nothing in front of it
    with pytest.raises(ValueError, match="does not fit"):
        found_background(features, (2, 3), torch.rand(3, 3, 6))
    with pytest.raises(ValueError, match="tau"):
        found_background(features, (2, 3), attention, tau=2.0)


@cases(60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(0.2, 0.9))
def test_largest_component_equals_scipy(seed, h, w, share):
    foreground = np.random.default_rng(seed).random((3, h, w)) < share
    got = largest_component(torch.from_numpy(foreground)).numpy()
    for image, component in zip(foreground, got, strict=True):
        labels, count = ndimage.label(image)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        expected = labels == (sizes.argmax() + 1) if count else np.zeros_like(image)
        np.testing.assert_array_equal(component, expected)


def test_pixels_of_patches():
    regions = torch.tensor([[[True, False], [False, True]]])
    pixels = pixels_of(regions, 2, (3, 5))
    assert pixels.int().tolist() == [[[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]]


# task


@pytest.mark.parametrize("method", ["lost", "tokencut", "maskcut", "found"])
def test_every_method_finds_bright_objects(method):
    samples = scenes(4)
    task = Discovery(data="scenes", method=method, normalise="none")
    ((_, outputs),) = task.run(Patchy(Transformer(), HALF), context(samples))
    if method == "found":  # without attention the dark background is as active as the object
        assert all(len(boxes) == 1 for boxes in outputs.predicted)
    else:
        assert [boxes[0].tolist() for boxes in outputs.predicted] == [boxes[0].tolist() for boxes in samples.boxes]
    assert outputs.foreground is None
    dead = Discovery(data="scenes", method=method, normalise="none")
    ((_, nothing),) = dead.run(Dead(Transformer(), HALF), context(samples))
    assert [len(boxes) for boxes in nothing.predicted] == [0] * 4
    assert CorLoc().values(nothing).tolist() == [0] * 4


class Dead(Patchy):
    def patch_features(self, images: Tensor, facet: str = "keys") -> Tensor:
        return super().patch_features(images) * NAN


class Attentive(Patchy):
    """Attends to what is bright, with a class token before the patches."""

    prefix_tokens = 1

    def attentions(self, images: Tensor) -> Tensor:
        bright = nn.functional.avg_pool2d(images, 4).flatten(1) + 1.01
        rows = torch.cat([torch.ones(len(images), 1), bright], 1).softmax(dim=1)
        return rows[None, :, None, None].expand(2, -1, 1, rows.shape[1], -1)


def test_the_background_is_what_the_class_token_ignores():
    samples = scenes(3)
    model = Attentive(Transformer(), HALF)
    given = attention_to_patches(model, torch.zeros(2, 1, 8, 12))
    assert given.shape == (2, 1, 6)
    ((_, outputs),) = Discovery(data="scenes", method="found").run(model, context(samples))
    assert [boxes[0].tolist() for boxes in outputs.predicted] == [boxes[0].tolist() for boxes in samples.boxes]
    assert attention_to_patches(Patchy(Transformer(), HALF), torch.zeros(1, 1, 8, 8)) is None


def test_masks_are_compared_where_there_are_some():
    plain = scenes(3)
    masks = (plain.images[:, 0] > 0).clone()
    masks[2] = False
    samples = ArraySamples(plain.images, boxes=plain.boxes, masks=masks)
    ((_, outputs),) = Discovery(data="scenes").run(Patchy(Transformer(), HALF), context(samples))
    assert MaskIoU().applies(outputs)
    np.testing.assert_array_equal(MaskIoU().values(outputs).numpy(), [1, 1, NAN])
    half = dataclasses.replace(outputs, foreground=[torch.zeros(30, 30).bool(), *outputs.foreground[1:]])
    assert MaskIoU().values(half)[0] == 0
    assert not MaskIoU().applies(Boxes([], []))


def test_true_boxes_end_at_the_image():
    plain = scenes(2)
    outside = torch.tensor([[-5.0, -5.0, 0.0, 4.0], [40.0, 2.0, 50.0, 9.0], [8.0, 3.0, 2.0, 9.0]])
    beyond = torch.cat([outside, torch.tensor([[10.0, 20.0, 99.0, 99.0]])])
    samples = ArraySamples(plain.images, boxes=[beyond, outside])
    ((_, outputs),) = Discovery(data="scenes").run(Patchy(Transformer(), HALF), context(samples))
    assert [boxes.tolist() for boxes in outputs.truth] == [[[10.0, 20.0, 30.0, 30.0]], []]
    np.testing.assert_array_equal(BestIoU().values(outputs).isnan().numpy(), [False, True])


class TwoSizes(ArraySamples):
    """The second image is larger."""

    def __getitem__(self, index: int):  # type: ignore[override]
        sample = super().__getitem__(index)
        grown = nn.functional.pad(sample.image, (0, 10 * index, 0, 6 * index))
        return dataclasses.replace(sample, image=grown)


def test_images_keep_their_own_size_on_request():
    plain = scenes(2, side=40)
    samples = TwoSizes(plain.images, boxes=plain.boxes)
    sized = Patchy(Transformer(), Preprocessing((0.5,), (0.5,), size=20))
    ((_, own),) = Discovery(data="scenes", size="own").run(sized, context(samples))
    assert [boxes[0].tolist() for boxes in own.predicted] == [boxes[0].tolist() for boxes in plain.boxes]
    assert own.exhibit.images.shape == (2, 1, 46, 50)
    assert float(own.exhibit.images[0, :, 40:].min()) == 1.0  # a white rim
    assert sized.preprocessing.size == 20
    ((_, fitted),) = Discovery(data="scenes").run(sized, context(samples))
    assert fitted.exhibit.images.shape == (2, 1, 20, 20)


def test_facets_and_merged_patches():
    asked = []

    class Faceted(Patchy):
        def patch_features(self, images: Tensor, facet: str = "keys") -> Tensor:
            asked.append(facet)
            return nn.functional.avg_pool2d(images, 8)  # stages that merged patches of 4

    model = Faceted(Transformer(), HALF)
    assert patches_of(model, torch.zeros(1, 1, 32, 32)).size == 8
    list(Discovery(data="scenes", facet="values").run(model, context(scenes(1, side=32))))
    assert asked == ["keys", "values"]


@pytest.mark.parametrize(("field", "value"), [("objects", 0), ("tau", 2.0), ("exhibits", -1)])
def test_task_refuses(field, value):
    assert field in str(Discovery(data="scenes", **{field: value}).problem())
