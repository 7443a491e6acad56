"""VOC and COCO with boxes and masks, and photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit.boxes import coco, note, thing, voc
from kit.files import opened, save
from PIL import Image
from pruningbench_data.coco import Coco20k
from pruningbench_data.photos import Photos
from pruningbench_data.voc import CLASSES, Voc07, Voc12

from pruningbench.contract import EncodedSamples
from pruningbench.errors import DataError, MissingDataError

pytestmark = pytest.mark.usefixtures("root")

# ---- VOC ---------------------------------------------------------------------------------------------


PART = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"


def test_voc_boxes_are_zero_based_with_exclusive_maxima(root: Path) -> None:
    voc(root, {"000001": thing("cat", (1, 1, 20, 10)) + thing("person", (3, 2, 3, 2), part=PART),
               "000002": thing("dog", ("4.6", 5, 9, 10), 1)})  # fmt: skip
    samples = opened(Voc07())
    assert samples[0].boxes.tolist() == [[0, 0, 20, 10], [2, 1, 3, 2]]  # the whole image, and one pixel
    assert samples[1].boxes.tolist() == [[pytest.approx(3.6), 4, 9, 10]]
    assert samples[0].boxes.dtype == torch.float32
    assert samples.keys == ("000001", "000002")
    assert (samples.labels, samples[0].mask) == (None, None)
    assert samples[0].image.shape == (3, 10, 20)


def test_voc_difficult_objects_and_classes_are_parameters(root: Path) -> None:
    voc(root, {"a": thing("cat", (1, 1, 5, 5)) + thing("cat", (6, 6, 9, 9), 1), "b": thing("dog", (1, 1, 2, 2), 1)})
    assert [len(s.boxes) for s in opened(Voc07())] == [2, 1]
    assert [len(s.boxes) for s in opened(Voc07(difficult=False))] == [1]  # b shows nothing else
    assert opened(Voc07(classes=("dog",))).keys == ("b",)
    with pytest.raises(DataError, match="none of the 2 images shows an object of"):
        opened(Voc07(classes=("sofa",)))
    assert "did you mean 'aeroplane'" in (Voc07(classes=("airplane",)).problem() or "")
    prints = {
        opened(Voc07(**fields)).fingerprint
        for fields in ({}, {"difficult": False}, {"classes": ("dog",)}, {"limit": 1})
    }
    assert len(prints) == 4


def palette_mask(path: Path, indices: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices)
    image.putpalette([(7 * i) % 256 for i in range(768)])
    image.save(path)


def test_voc_masks_are_palette_indices(root: Path) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 9, 9))}, "2012", "val", "Segmentation")
    indices = np.zeros((10, 20), dtype=np.uint8)
    indices[2:5, 3:9], indices[5:7, 3:9], indices[0, 0], indices[9] = 8, 15, 1, 255  # cat, person, aeroplane, void
    palette_mask(base / "SegmentationClass/x.png", indices)
    with Image.open(base / "SegmentationClass/x.png") as image:
        assert image.mode == "P"
        assert np.asarray(image.convert("RGB"))[..., 0].max() != 15  # colours are not indices
    masks = {
        "all": opened(Voc12(annotation="masks"))[0].mask,
        "void": opened(Voc12(annotation="masks", void="object"))[0].mask,
        "cat": opened(Voc12(annotation="masks", classes=("cat",)))[0].mask,
    }
    assert torch.equal(masks["all"], torch.from_numpy((indices > 0) & (indices < 255)))
    assert torch.equal(masks["void"], torch.from_numpy(indices > 0))
    assert torch.equal(masks["cat"], torch.from_numpy(indices == CLASSES.index("cat") + 1))
    assert masks["cat"].dtype == torch.bool
    assert opened(Voc12(annotation="masks"))[0].boxes.tolist() == [[0, 0, 9, 9]]


def sized(content: str, height: object = 10, width: object = 20) -> str:
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{content}</annotation>"


def test_voc_boxes_can_be_filled_as_masks(root: Path) -> None:
    base = voc(
        root, {"x": thing("cat", (3, 2, 6, 5)) + thing("dog", ("19.6", 9, 20, 10)) + thing("cow", (1, 1, 1, 1), 1)}
    )
    content = (base / "Annotations/x.xml").read_text()
    size = "<size><width>20</width><height>10</height></size>"
    (base / "Annotations/x.xml").write_text(content.replace("<annotation>", f"<annotation>{size}", 1))
    samples = opened(Voc07(annotation="filled-boxes", difficult=False))
    expected = torch.zeros(10, 20, dtype=torch.bool)
    expected[1:5, 2:6] = True  # pixels 3 to 6 and 2 to 5, counted from 1
    expected[8:10, 19] = True  # the box begins at 18.6, behind the centre of pixel 18
    assert torch.equal(samples[0].mask, expected)
    assert samples[0].boxes.shape == (2, 4)
    assert samples.keys == opened(Voc07()).keys  # the images of ImageSets/Main
    prints = {opened(Voc07(annotation=kind)).fingerprint for kind in ("boxes", "filled-boxes")}
    assert len(prints) == 2
    assert opened(Voc07(annotation="filled-boxes", classes=("dog",)))[0].mask.sum() == 2


@pytest.mark.parametrize(
    "size", [("", 20), (0, 20), (-3, 20), ("9" * 5000, 20), ("\u0663", 20), (10**9, 10**9), ("3.5", 2)]
)
def test_a_size_that_is_none_is_named(root: Path, size: tuple[object, object]) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 2, 2))})
    (base / "Annotations/x.xml").write_text(sized(thing("cat", (1, 1, 2, 2)), *size))
    with pytest.raises(DataError, match=r"x.xml: its size \(height, width\) is .*, which is not that of an image"):
        opened(Voc07(annotation="filled-boxes"))[0]


def test_a_size_that_is_another_images_is_named(root: Path) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 2, 2))})
    (base / "Annotations/x.xml").write_text(sized(thing("cat", (1, 1, 2, 2)), 4, 4))
    with pytest.raises(DataError, match=r"its mask \(4, 4\)"):
        opened(Voc07(annotation="filled-boxes"))[0]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda base: (base / "Annotations/x.xml").unlink(), "Annotations/x.xml: the annotation is missing"),
        (lambda base: (base / "Annotations/x.xml").write_text("<a>"), "x.xml: the annotation cannot be read"),
        (lambda base: (base / "Annotations/x.xml").write_text(f"<a>{thing('cat', (1, 'one', 2, 2))}</a>"), "'one'"),
        (lambda base: (base / "Annotations/x.xml").write_text("<a><object><name>cat</name></object></a>"), "missing"),
        (lambda base: (base / "Annotations/x.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>"), "define entities"),
        (lambda base: (base / "ImageSets/Segmentation/val.txt").write_text("\n"), "val.txt: the list of images is empty"),
        (lambda base: (base / "JPEGImages/x.jpg").unlink(), r"JPEGImages/x.jpg: cannot be read"),
        (lambda base: (base / "SegmentationClass/x.png").unlink(), "SegmentationClass/x.png: cannot be read"),
        (lambda base: save(base / "SegmentationClass/x.png"), r"x.png: the mask holds colours \(RGB\)"),
        (lambda base: (base / "SegmentationClass/x.png").write_bytes(b"x"), "x.png: the mask cannot be decoded"),
        (lambda base: palette_mask(base / "SegmentationClass/x.png", np.ones((3, 3), np.uint8)), r"its mask \(3, 3\)"),
    ],
)  # fmt: skip
def test_damaged_voc_data_is_named(root: Path, break_it: Callable[[Path], object], words: str) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 9, 9))}, "2012", "val", "Segmentation")
    palette_mask(base / "SegmentationClass/x.png", np.ones((10, 20), dtype=np.uint8))
    break_it(base)
    with pytest.raises(DataError, match=words):
        opened(Voc12(annotation="masks"))[0]


def test_missing_voc_lists_name_the_command(root: Path) -> None:
    voc(root, {"x": thing("cat", (1, 1, 9, 9))})
    lack = Voc07(split="trainval").missing() or ""
    assert "ImageSets/Main/trainval.txt is missing; get it with `pruningbench data fetch voc07`" in lack


# ---- COCO --------------------------------------------------------------------------------------------


def test_coco_boxes_become_corners(root: Path) -> None:
    coco(root, [note(102, 1.5, 2, 10, 5), note(100, 0, 0, 30, 20), note(100, 3, 3, 4, 4, crowd=1),
                note(102, 1, 1, 0, 5), note(101, 3, 3, 4, 4, crowd=1)])  # fmt: skip
    for _ in range(2):  # the second time from the cache
        samples = opened(Coco20k())
        assert samples.keys == ("COCO_train2014_000000000000.jpg", "COCO_train2014_000000000002.jpg")
        assert [s.boxes.tolist() for s in samples] == [[[0, 0, 30, 20]], [[1.5, 2, 11.5, 7]]]
    crowded = opened(Coco20k(crowd=True))
    assert [len(s.boxes) for s in crowded] == [2, 1, 1]
    assert len(opened(Coco20k(limit=1))) == 1


def test_the_parsed_boxes_follow_the_file(root: Path) -> None:
    coco(root, [note(100, 0, 0, 3, 3)])
    assert opened(Coco20k())[0].boxes.tolist() == [[0, 0, 3, 3]]
    path = root / "coco/annotations/instances_train2014.json"
    path.write_text(path.read_text().replace("[0, 0, 3, 3]", "[0, 0, 4, 4]"))
    assert opened(Coco20k())[0].boxes.tolist() == [[0, 0, 4, 4]]


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"images": [], "annotations": [{}]}', '{"images": [], "annotations": []}']
)
def test_damaged_coco_annotations_are_named(root: Path, content: str) -> None:
    coco(root, [note(100, 0, 0, 3, 3)])
    (root / "coco/annotations/instances_train2014.json").write_text(content)
    with pytest.raises(
        DataError, match=r"instances_train2014.json: (is not JSON|is not COCO's instances file|has no image)"
    ):
        opened(Coco20k())


def test_coco_fetches_only_what_lacks(root: Path) -> None:
    assert [item.unpack for item in Coco20k().downloads()] == [False, True, True]
    (root / "coco/train2014").mkdir(parents=True)
    assert [item.file for item in Coco20k().downloads()] == ["coco_20k_filenames.txt", "annotations_trainval2014.zip"]


# ---- photographs -------------------------------------------------------------------------------------


def test_photographs_come_with_scikit_image() -> None:
    samples = opened(Photos())
    assert isinstance(samples, EncodedSamples)
    assert samples.keys == ("chelsea", "coffee", "astronaut", "rocket")
    assert [tuple(s.image.shape) for s in samples] == [(3, 300, 451), (3, 400, 600), (3, 512, 512), (3, 427, 640)]
    grey = opened(Photos(names=("camera",)))[0].image
    assert torch.equal(grey[0], grey[2])
    assert opened(Photos(limit=2)).fingerprint != samples.fingerprint


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruningbench_data.photos.find_spec", lambda _name: None)
    with pytest.raises(
        MissingDataError, match=r"scikit-image is not installed; install it with .*pruningbench\[demo\]"
    ):
        opened(Photos())
    assert "there is no photograph 'lena'" in (Photos(names=("lena",)).problem() or "")
    assert "each once" in (Photos(names=("coffee", "coffee")).problem() or "")
