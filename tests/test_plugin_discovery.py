"""LOST, patch grids, CorLoc and the discovery task."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.discovery import Patchy, Transformer, context, scenes
from pruningbench_discovery import best_iou, corloc, lost
from pruningbench_discovery.features import patches_of, stride_of
from pruningbench_discovery.grid import bounding_boxes, connected_component
from pruningbench_discovery.metrics import BestIoU, CorLoc
from pruningbench_discovery.seed_expansion import degrees
from pruningbench_discovery.task import Discovery
from scipy import ndimage
from torch import Tensor, nn

from pruningbench.contract import (
    ArraySamples,
    Boxes,
    Preprocessing,
)
from pruningbench.errors import PruningBenchError

DATA = Path(__file__).parent / "data" / "discovery"
LOST, CORLOC = np.load(DATA / "lost.npz"), np.load(DATA / "corloc.npz")
NAN = float("nan")


# LOST


@pytest.mark.parametrize("case", range(4))
def test_lost_equals_the_original(case):
    features = torch.from_numpy(LOST[f"features_{case}"]).float()[None]
    grid, size = tuple(LOST["grid_hw"][case].tolist()), tuple(LOST["image_size_hw"][case].tolist())
    degree = degrees(features.double())[0]
    assert degree.tolist() == LOST[f"degree_{case}"].tolist()
    assert int(degree.argmin()) == LOST["seed"][case]
    box = lost(features, grid, int(LOST["patch_size"][case]), size)
    assert box[0].tolist() == LOST["box_xyxy"][case].tolist()


def naive_lost(features: np.ndarray, grid: tuple[int, int], patch: int, size: tuple[int, int], k: int) -> list[float]:
    """LOST of one image from its definition, in float64 with SciPy's components."""
    gram = features @ features.T
    others = gram.copy()
    np.fill_diagonal(others, 0)
    order = np.argsort((others > 0).sum(1), kind="stable")[:k]
    seed = order[0]
    similar = [j for j in order if gram[seed, j] > 0]
    votes = gram[similar].sum(0) if similar else np.zeros(len(gram))
    labels, _ = ndimage.label((votes > 0).reshape(grid))
    mine = labels.flat[seed]
    if mine == 0:
        return [NAN] * 4
    rows, columns = np.nonzero(labels == mine)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    limits = [size[1], size[0]] * 2
    return [min(float(edge * patch), limit) for edge, limit in zip(edges, limits, strict=True)]


@cases(60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(1, 60),
    st.booleans(),
)
def test_lost_equals_its_definition(seed, h, w, dimensions, k, whole):
    # whole numbers make ties, orthogonal and zero features, and exact sums
    rng = np.random.default_rng(seed)
    shape = (3, h * w, dimensions)
    features = rng.integers(-2, 3, shape).astype(np.float64) if whole else rng.normal(size=shape)
    got = lost(torch.from_numpy(features), (h, w), 4, (4 * h - 1, 4 * w - 3), k)
    expected = [naive_lost(image, (h, w), 4, (4 * h - 1, 4 * w - 3), k) for image in features]
    np.testing.assert_array_equal(got.numpy(), np.array(expected, dtype=np.float32))


def test_lost_finds_a_planted_object():
    features = torch.zeros(1, 48, 3)
    features[..., 0] = 1.0
    grid = features.view(1, 6, 8, 3)
    grid[0, 2:4, 3:6] = torch.tensor([-0.5, 1.0, 0.0])
    assert lost(features, (6, 8), 10, (60, 80)).tolist() == [[30.0, 20.0, 60.0, 40.0]]
    assert lost(features, (6, 8), 10, (35, 55)).tolist() == [[30.0, 20.0, 55.0, 35.0]]  # clipped


def test_signs_within_the_rounding_of_float32_are_exact():
    # x'y = 1e-9 and -1e-9 with terms of order 1: a float32 product cannot tell them from zero
    a = [1.0, 1.0]
    features = torch.tensor([[a, [1.0, -1.0 + 1e-9], [-1.0, 1.0 - 1e-9], [1.0, -1.0]]], dtype=torch.float64)
    assert degrees(features).tolist() == [[1, 2, 0, 1]]


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_degrees_do_not_depend_on_the_precision_of_products(precision):
    features = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (features @ features.mT > 0).sum(2) - 1
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(degrees(features), expected)
    finally:
        torch.set_float32_matmul_precision(before)


def test_lost_of_collapsed_features_is_no_box():
    features = torch.randn(4, 9, 2, generator=torch.Generator().manual_seed(0))
    alone = lost(features[3:], (3, 3), 1, (3, 3))
    features[0, 4, 1] = NAN
    features[1] = float("inf")
    features[2] = 0.0
    boxes = lost(features, (3, 3), 1, (3, 3))
    assert boxes[:3].isnan().all()
    assert torch.equal(boxes[3:], alone)


@pytest.mark.parametrize(("grid", "k", "message"), [((2, 4), 1, "N = 2"), ((3, 3), 0, "k must")])
def test_lost_refuses(grid, k, message):
    with pytest.raises(ValueError, match=message):
        lost(torch.ones(1, 9, 2), grid, 1, (3, 3), k)


# grids


@cases(80)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(0.2, 0.95))
def test_components_equal_scipy(seed, h, w, share):
    rng = np.random.default_rng(seed)
    foreground = rng.random((4, h, w)) < share
    seeds = rng.integers(0, h * w, 4)
    got = connected_component(torch.from_numpy(foreground), torch.from_numpy(seeds)).numpy()
    for image, start, component in zip(foreground, seeds, got, strict=True):
        labels, _ = ndimage.label(image)
        mine = labels.flat[start]
        np.testing.assert_array_equal(component, (labels == mine) & (mine > 0))


def test_a_component_that_winds():
    maze = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]).bool()
    broken = maze.clone()
    broken[4, 2] = False
    both = connected_component(torch.stack([maze, broken]), torch.tensor([0, 0]))
    assert torch.equal(both[0], maze)
    assert int(both[1].sum()) == 10


def test_boxes_of_an_empty_region_are_nan():
    regions = torch.zeros(2, 3, 4, dtype=torch.bool)
    regions[1, 1, 2] = True
    boxes = bounding_boxes(regions, 8, (20, 30))
    assert boxes[0].isnan().all()
    assert boxes[1].tolist() == [16.0, 8.0, 24.0, 16.0]


# CorLoc


def test_published_boxes_of_lost_score_as_published():
    offsets = CORLOC["gt_offsets"]
    truth = CORLOC["gt_xyxy"].astype(np.float32)
    truth[:, :2] -= 1
    truths = [torch.from_numpy(truth[a:b]) for a, b in itertools.pairwise(offsets)]
    boxes = torch.from_numpy(CORLOC["pred_xyxy"].astype(np.float32))
    hits = corloc(boxes, truths)
    assert hits.tolist() == CORLOC["hit"].tolist()
    assert int(hits.sum()) == 597
    np.testing.assert_allclose(best_iou(boxes, truths).numpy(), CORLOC["best_iou"], atol=1e-12)


def test_iou_by_hand():
    box = torch.tensor([[0.0, 0.0, 4.0, 2.0]]).expand(5, 4)
    truths = [
        torch.tensor([[0.0, 0.0, 4.0, 4.0]]),  # exactly one half: a hit
        torch.tensor([[0.0, 0.0, 4.0, 4.1]]),
        torch.tensor([[4.0, 0.0, 8.0, 2.0], [3.0, 1.0, 5.0, 3.0]]),  # touches; shares 1 of 11
        torch.tensor([[0.0, 0.0, 4.0, 2.0]]),
        torch.empty(0, 4),
    ]
    iou = best_iou(box, truths)
    expected = [0.5, 8 / 16.4, 1 / 11, 1.0, NAN]
    np.testing.assert_allclose(iou.numpy(), expected, rtol=1e-6)
    assert corloc(box, truths).tolist() == [True, False, False, True, False]
    assert corloc(box, truths, threshold=0.05).tolist() == [True, True, True, True, False]


def test_no_box_is_a_miss_and_no_truth_is_undefined():
    truth = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    predicted = [truth, torch.empty(0, 4), truth, torch.cat([truth + 5, truth])]
    outputs = Boxes(predicted, [truth, truth, torch.empty(0, 4), truth])
    hits, overlap = CorLoc().values(outputs), BestIoU().values(outputs)
    np.testing.assert_array_equal(hits.numpy(), [1, 0, NAN, 0])  # the first box counts
    np.testing.assert_array_equal(overlap.numpy(), [1, 0, NAN, 0])
    assert len(CorLoc().values(Boxes([], []))) == 0


def test_best_iou_refuses_another_number_of_images():
    with pytest.raises(ValueError, match="2 images"):
        best_iou(torch.ones(1, 4), [torch.ones(1, 4)] * 2)


# task


def test_task_finds_bright_objects():
    samples = scenes(5)
    model = Patchy(Transformer(), Preprocessing((0.5,), (0.5,)))
    ((variant, outputs),) = Discovery(data="scenes", exhibits=3).run(model, context(samples))
    assert variant == ""
    assert CorLoc().values(outputs).tolist() == [1] * 5
    assert [b.tolist() for b in outputs.predicted] == [b.tolist() for b in samples.boxes]
    exhibit = outputs.exhibit
    assert exhibit.kind == "boxes"
    assert exhibit.keys == ("0", "1", "2")
    torch.testing.assert_close(exhibit.images, samples.images[:3] / 255.0)
    assert [len(b) for b in (exhibit.predicted, exhibit.truth)] == [3, 3]


def test_task_takes_the_first_samples_and_no_exhibit():
    model = Patchy(Transformer(), Preprocessing((0.5,), (0.5,)))
    task = Discovery(data="scenes", count=3, exhibits=0)
    ((_, outputs),) = task.run(model, context(scenes(5)))
    assert len(outputs.predicted) == len(outputs.truth) == 3
    assert outputs.exhibit is None


def test_task_gives_a_collapsed_network_no_boxes():
    class Dead(Patchy):
        def patch_features(self, images: Tensor, facet: str = "keys") -> Tensor:
            return super().patch_features(images) * NAN

    ((_, outputs),) = Discovery(data="scenes").run(
        Dead(Transformer(), Preprocessing((0.5,), (0.5,))), context(scenes(3))
    )
    assert [tuple(b.shape) for b in outputs.predicted] == [(0, 4)] * 3
    assert CorLoc().values(outputs).tolist() == [0, 0, 0]


def test_task_needs_true_boxes():
    samples = ArraySamples(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), keys=["left", "right"])
    with pytest.raises(PruningBenchError, match="'left' has none"):
        list(Discovery(data="scenes").run(Patchy(Transformer(), Preprocessing((0.5,), (0.5,))), context(samples)))


def test_candidates_default_to_the_papers_share(monkeypatch):
    asked = []

    def spy(features, grid, k):
        asked.append((grid, k))
        return torch.zeros(len(features), *grid, dtype=torch.bool)

    monkeypatch.setattr("pruningbench_discovery.seed_expansion.lost_regions", spy)
    model = Patchy(Transformer(), Preprocessing((0.5,), (0.5,)))
    list(Discovery(data="scenes").run(model, context(scenes(1, side=30))))
    list(Discovery(data="scenes").run(model, context(scenes(1, side=112))))
    list(Discovery(data="scenes", k=7).run(model, context(scenes(1, side=112))))
    assert asked == [((8, 8), 8), ((28, 28), 100), ((28, 28), 7)]


def test_features_are_padded_and_normalised_by_kind_of_network():
    images = torch.randn(2, 1, 10, 16, generator=torch.Generator().manual_seed(0))
    keys = patches_of(Patchy(Transformer(), Preprocessing((0.5,), (0.5,))), images)
    assert (keys.grid, keys.size) == ((3, 4), 4)
    bottom = images[0, 0, 8:, :4].sum() / 16  # two rows of zeros below
    torch.testing.assert_close(keys.features[0, 8], torch.stack([bottom, torch.tensor(0.5)]))
    convolutional = Patchy(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)), Preprocessing((0.5,), (0.5,)))
    maps = patches_of(convolutional, images[..., :8, :])
    torch.testing.assert_close(maps.features.mean(dim=(1, 2)), torch.zeros(2))
    torch.testing.assert_close(maps.features.var(dim=(1, 2), correction=0), torch.ones(2), rtol=1e-3, atol=0)
    raw = patches_of(convolutional, images[..., :8, :], "none")
    assert bool((raw.features[..., 1] == 0.5).all())
    centred = patches_of(convolutional, images[..., :8, :], "channels")
    torch.testing.assert_close(centred.features.mean(dim=1), torch.zeros(2, 2), atol=1e-7, rtol=0)
    torch.testing.assert_close(
        centred.features[:, 1:] - centred.features[:, :1], raw.features[:, 1:] - raw.features[:, :1]
    )


@pytest.mark.parametrize(
    ("size", "grid", "stride"),
    [
        ((36, 36), (9, 9), 4),
        ((375, 500), (24, 32), 16),
        ((33, 33), (5, 5), 8),
        ((224, 224), (7, 7), 32),
        ((7, 7), (7, 7), 1),
    ],
)
def test_stride(size, grid, stride):
    assert stride_of(size, grid) == stride


@pytest.mark.parametrize("field", ["k", "count"])
def test_task_fields_out_of_range(field):
    fine = Discovery(data="scenes")
    assert fine.problem() is None
    assert field in str(dataclasses.replace(fine, **{field: 0}).problem())
    assert CorLoc(threshold=0.0).problem() is not None
