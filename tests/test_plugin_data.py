"""The embedded data sets: real digits and scenes composed of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from pruningbench_data import pruningbench_register_datasets
from pruningbench_data._compose import Layout, compose
from pruningbench_data._scans import enlarge, load_scans, rows_of, to_bytes
from pruningbench_data.digits import Digits
from pruningbench_data.scenes import GAP, DigitScenes
from sklearn.datasets import load_digits

from pruningbench.contract import ArraySamples
from pruningbench.plugins import Plugin, Registry
from pruningbench.suite.binding import BindingError, bind


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    plugin = Plugin("data", "test", "0")
    pruningbench_register_datasets(lambda name, target: registry.add("dataset", name, target, plugin))
    return registry


def opened(dataset: Any) -> ArraySamples:
    assert dataset.problem() is None
    return dataset.load(None)  # neither data set needs a context


def rows(samples: ArraySamples) -> set[int]:
    return {int(part) for key in samples.keys for part in key.split("digit-")[1:] for part in [part.strip("-")]}


# ---- digits ------------------------------------------------------------------------------------------


def test_digits_at_scan_size_are_the_source_itself() -> None:
    samples = opened(Digits(split="all", size=8))
    source = load_digits()
    expected = np.floor(source.images / 16 * 255 + 0.5).astype(np.uint8)
    assert np.array_equal(samples.images[:, 0].numpy(), expected)
    assert np.array_equal(samples.labels.numpy(), source.target)
    assert samples.classes == tuple("0123456789")


def test_splits_are_disjoint_stratified_and_complete() -> None:
    train, test, everything = (opened(Digits(split=split)) for split in ("train", "test", "all"))
    assert rows(train).isdisjoint(rows(test))
    assert rows(train) | rows(test) == rows(everything) == set(range(1797))
    for digit in range(10):
        share = int((test.labels == digit).sum()) / int((everything.labels == digit).sum())
        assert abs(share - 1 / 3) < 0.01


def test_digits_have_the_declared_form() -> None:
    samples = opened(Digits(split="test", limit=7))
    assert samples.images.dtype == torch.uint8
    assert samples.images.shape == (7, 1, 24, 24)
    assert samples.labels is not None
    assert samples.labels.dtype == torch.int64
    assert samples[0].key.startswith("digit-")


def test_labels_follow_the_order_of_the_classes() -> None:
    samples = opened(Digits(split="test", classes=(9, 4)))
    assert samples.classes == ("9", "4")
    truth = load_digits().target
    for sample in samples:
        row = int(sample.key.removeprefix("digit-"))
        assert truth[row] == (9, 4)[sample.label]


@cases(40)
@given(
    classes=st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True),
    limit=st.integers(1, 2000),
    split=st.sampled_from(["train", "test", "all"]),
)
def test_a_limit_is_shared_evenly(classes: list[int], limit: int, split: Any) -> None:
    chosen = rows_of(split, classes, limit)
    whole = rows_of(split, classes)
    assert len(chosen) == min(limit, len(whole))
    assert set(chosen) <= set(whole)
    counts = np.bincount(load_scans().digits[chosen], minlength=10)[classes]
    available = np.bincount(load_scans().digits[whole], minlength=10)[classes]
    full = counts == available
    assert np.ptp(counts[~full]) <= 1 if (~full).any() else True
    assert all(counts[full] <= counts[~full].max()) if full.any() and (~full).any() else True


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"classes": []}, "empty"),
        ({"classes": [1, 1]}, "repeat"),
        ({"classes": [3, 10]}, "0..9"),
        ({"classes": [-1]}, "0..9"),
        ({"limit": 0}, "limit"),
        ({"size": 7}, "size"),
        ({"split": "tset"}, "test"),
        ({"limit": "3"}, "limit"),
    ],
)
def test_bad_fields_of_digits_are_refused(registry: Registry, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BindingError, match=words):
        bind(registry, "dataset", {"use": "digits", **fields})


def test_fingerprints_tell_data_apart() -> None:
    variants = [
        Digits(),
        Digits(split="test"),
        Digits(classes=(0, 1)),
        Digits(classes=(1, 0)),
        Digits(limit=100),
        Digits(size=32),
    ]
    assert len({opened(v).fingerprint for v in variants}) == len(variants)
    assert opened(Digits()).fingerprint == opened(Digits()).fingerprint


# ---- enlarging ---------------------------------------------------------------------------------------


def test_enlarging_equals_torch_bicubic() -> None:
    # torch's antialiased bicubic uses Keys' kernel with a = -1/2, and enlarging needs no antialiasing
    images = np.random.default_rng(0).random((3, 8, 8))
    mine = enlarge(images, (19, 24))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None], (19, 24), mode="bicubic", antialias=True
    )
    inner = (slice(None), slice(5, -5), slice(6, -6))  # at the edges torch renormalises instead of repeating
    assert np.allclose(mine[inner], theirs[:, 0].clamp(0, 1).numpy()[inner], atol=1e-12)


def test_enlarging_keeps_constants_and_identity() -> None:
    flat = np.full((8, 8), 0.3)
    assert np.allclose(enlarge(flat, 29), 0.3, atol=1e-15)
    images = np.random.default_rng(1).random((2, 8, 8))
    assert np.allclose(enlarge(images, 8), images, atol=1e-15)


def test_bytes_round_halves_up_in_spite_of_the_last_bit() -> None:
    half = np.array([0.5, 1.5, 100.5]) / 255
    assert to_bytes(np.nextafter(half, 0)).tolist() == [1, 2, 101]
    assert to_bytes(np.array([-0.1, 0.0, 1.0, 1.2])).tolist() == [0, 0, 255, 255]


# ---- scenes ------------------------------------------------------------------------------------------


def components_of(mask: np.ndarray[Any, Any], boxes: torch.Tensor) -> None:
    """Check that boxes are tight around disjoint parts that make up the mask."""
    covered = np.zeros_like(mask)
    for xmin, ymin, xmax, ymax in boxes.int().tolist():
        window = mask[ymin:ymax, xmin:xmax]
        assert window[0].any()
        assert window[-1].any()
        assert window[:, 0].any()
        assert window[:, -1].any()
        assert not covered[ymin:ymax, xmin:xmax].any()
        covered[ymin:ymax, xmin:xmax] = True
    assert not (mask & ~covered).any()


@cases(25)
@given(
    size=st.integers(32, 64),
    most=st.integers(1, 3),
    clutter=st.integers(0, 6),
    seed=st.integers(0, 10_000),
    noise=st.floats(0, 0.9),
)
def test_boxes_are_tight_and_digits_apart(size: int, most: int, clutter: int, seed: int, noise: float) -> None:
    dataset = DigitScenes(
        count=6, size=size, objects=(1, most), scale=(0.3, 0.9), clutter=clutter, noise=noise, seed=seed
    )
    samples = opened(dataset)
    for sample in samples:
        assert sample.image.shape == (1, size, size)
        assert 1 <= len(sample.boxes) <= most
        assert bool((sample.boxes >= 0).all() and (sample.boxes <= size).all())
        components_of(sample.mask.numpy(), sample.boxes)
        for i, a in enumerate(sample.boxes):
            for b in sample.boxes[i + 1 :]:
                gaps = torch.maximum(a[:2], b[:2]) - torch.minimum(a[2:], b[2:])
                assert float(gaps.max()) >= GAP


def test_the_mask_is_the_bright_ink() -> None:
    samples = opened(DigitScenes(count=60))
    for sample in samples:
        image = sample.image[0].float() / 255
        # a pixel half covered by ink of brightness >= .8 on a black ground; outside lies less ink or clutter
        assert float(image[sample.mask].min()) >= 0.4
        assert float(image[sample.mask].mean()) > 2 * float(image[~sample.mask].mean())


def test_scenes_without_background_show_the_scans_exactly() -> None:
    layout = Layout(size=30, objects=(1, 1), sides=(20, 20), clutter=0, noise=0.0, gap=GAP)
    scene = compose(layout, "test", (3,), 0, seed=5)
    ink = enlarge(load_scans().ink[scene.rows[0]], 20)
    solid = ink >= 0.5
    assert scene.mask.sum() == solid.sum()
    xmin, ymin, xmax, ymax = scene.boxes[0].astype(int)
    inked, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    part = solid[inked[0] : inked[-1] + 1, columns[0] : columns[-1] + 1]
    assert np.array_equal(scene.mask[ymin:ymax, xmin:xmax], part)
    assert np.count_nonzero(scene.image) == np.count_nonzero(to_bytes(ink * scene.image.max() / 255))


def test_digits_stand_on_a_grid_where_chance_finds_no_room() -> None:
    layout = Layout(size=40, objects=(16, 16), sides=(8, 8), clutter=0, noise=0.0, gap=GAP)
    for seed in range(5):
        scene = compose(layout, "train", (0, 1), 0, seed)
        assert len(scene.boxes) == 16
        components_of(scene.mask, torch.from_numpy(scene.boxes))


def test_scene_digits_and_clutter_come_from_their_split() -> None:
    train, test = (opened(DigitScenes(split=split, count=300)) for split in ("train", "test"))
    assert rows(train).isdisjoint(rows(test))
    assert rows(test) <= rows(opened(Digits(split="test")))
    layout = Layout(36, (1, 2), (16, 27), 5, 0.3, GAP)
    for seed in range(20):
        scene = compose(layout, "test", range(6), 2, seed)
        assert set(scene.clutter_rows) <= set(rows_of("test", [0, 1, 3, 4, 5]))
        assert set(scene.rows) <= set(rows_of("test", [2]))


def test_labels_are_balanced_and_name_the_digits_shown() -> None:
    samples = opened(DigitScenes(count=20, classes=(7, 2, 5)))
    assert torch.bincount(samples.labels).tolist() == [7, 7, 6]
    truth = load_digits().target
    for sample in samples:
        shown = {int(truth[int(part.strip("-"))]) for part in sample.key.split("digit-")[1:]}
        assert shown == {(7, 2, 5)[sample.label]}
    assert samples.classes == ("7", "2", "5")


def test_scenes_do_not_depend_on_their_number() -> None:
    few, many = opened(DigitScenes(count=5)), opened(DigitScenes(count=9))
    assert torch.equal(few.images, many.images[:5])
    assert few.keys == many.keys[:5]


def test_every_field_of_scenes_changes_the_fingerprint() -> None:
    base: dict[str, Any] = {"count": 12}
    variants = [
        {},
        {"split": "train"},
        {"classes": (0, 1)},
        {"count": 13},
        {"size": 40},
        {"objects": (2, 2)},
        {"scale": (0.45, 0.6)},
        {"clutter": 1},
        {"noise": 0.2},
        {"seed": 1},
    ]
    prints = {opened(DigitScenes(**{**base, **v})).fingerprint for v in variants}
    assert len(prints) == len(variants)
    assert opened(DigitScenes(**base)).fingerprint == opened(DigitScenes(**base)).fingerprint


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"objects": [2, 1]}, "objects"),
        ({"objects": [0, 1]}, "objects"),
        ({"objects": [1, 9]}, "do not fit"),
        ({"scale": [0.8, 0.4]}, "scale"),
        ({"scale": [0.1, 0.5]}, "smaller than scans"),
        ({"noise": 1.0}, "noise"),
        ({"count": 0}, "count"),
        ({"size": 8}, "size"),
        ({"clutter": -1}, "clutter"),
        ({"seed": -1}, "seed"),
        ({"classes": []}, "empty"),
        ({"split": "all"}, "split"),
    ],
)
def test_bad_fields_of_scenes_are_refused(registry: Registry, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BindingError, match=words):
        bind(registry, "dataset", {"use": "digit-scenes", **fields})


def test_loading_leaves_the_global_random_states() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    opened(DigitScenes(count=3))
    opened(Digits(limit=3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_component_modules_import_no_heavy_library() -> None:
    names = "cifar coco digits folder hub imagenet imagenette model_vs_human photos scenes triplets voc"
    modules = ", ".join(f"pruningbench_data.{name}" for name in names.split())
    heavy = "torch numpy sklearn scipy PIL pyarrow huggingface_hub timm skimage pandas"
    code = f"import sys, {modules}\nprint([m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
