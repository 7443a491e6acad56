"""Annotations of strangers: boxes that are none, entities that explode, JSON that no parser should be given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kit.boxes import coco, note, thing, voc
from kit.files import opened
from kit.hostilefiles import SPECIAL, peak_memory
from pruningbench_data.coco import Coco20k
from pruningbench_data.voc import Voc07

from pruningbench.errors import DataError


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def refused(dataset: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(dataset)
    text = str(caught.value)
    assert text.isprintable() and len(text) < 600
    return text


# ---- VOC ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (("nan", 1, 5, 5), "bndbox/xmin is 'nan', which is not a position in an image"),
        ((1, "-inf", 5, 5), "bndbox/ymin is '-inf', which is not a position in an image"),
        ((1, 1, "Infinity", 5), "bndbox/xmax is 'Infinity', which is not a position in an image"),
        ((1, 1, 5, "1e300"), "bndbox/ymax is '1e300', which is not a position in an image"),
        ((1, 1, 5, "9" * 400), "bndbox/ymax is '9999"),
        ((1, 1, "", 5), "bndbox/xmax is '', which is not a number"),
        ((9, 1, 5, 5), "its box is inverted (xmin, ymin, xmax, ymax are 9, 1, 5, 5)"),
        ((1, 9, 5, 5), "its box is inverted"),
    ],
    ids=lambda value: "-".join(str(side)[:9] for side in value) if isinstance(value, tuple) else "",
)
def test_boxes_that_are_none_name_file_and_object(root: Path, box: tuple[Any, ...], words: str) -> None:
    voc(root, {"x": thing("dog", (1, 1, 2, 2)) + thing("cat", box)})
    text = refused(Voc07())
    assert "Annotations/x.xml, object 2: " in text and words in text


LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
@pytest.mark.timeout(30)
def test_entities_are_refused_in_any_encoding(root: Path, encoding: str) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 5, 5))})
    text = f'<?xml version="1.0" encoding="{encoding[:6]}"?><!DOCTYPE d [<!ENTITY a0 "ha">{LAUGHS}]><d>&a9;</d>'
    (base / "Annotations/x.xml").write_bytes(text.encode(encoding))
    assert "Annotations/x.xml" in refused(Voc07())
    outer = '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/hostname">]><d><object><name>&f;</name></object></d>'
    (base / "Annotations/x.xml").write_bytes(outer.encode(encoding))
    assert "Annotations/x.xml" in refused(Voc07())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"<annotation>", "cannot be read"),
        (b"\xff\xfe\xfd", "byte 0xff is not UTF-8"),
        (b"<a>\n\xe9</a>", "line 2: byte 0xe9 is not UTF-8"),
        (b'<?xml version="1.0" encoding="ebcdic"?><annotation/>', "shows an object"),
        (b"<annotation>\0</annotation>", "cannot be read"),
        (b"<a " + b" ".join(b'x="1"' for _ in range(9)) + b"/>", "cannot be read"),
    ],
)  # fmt: skip
def test_xml_that_is_none_is_one_line(root: Path, content: bytes, words: str) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 5, 5))})
    (base / "Annotations/x.xml").write_bytes(content)
    assert words in refused(Voc07())


def test_deeply_nested_xml_does_not_end_the_process(root: Path) -> None:
    base = voc(root, {"x": ""})
    (base / "Annotations/x.xml").write_bytes(b"<a>" * 500_000 + b"</a>" * 500_000)
    code = "from pathlib import Path\nfrom pruningbench_data._voc import read_boxes\n"
    told, peak = peak_memory(
        code + "try: print(read_boxes(Path(args[0]), ['cat'], True).shape)\nexcept Exception as e: print(type(e), e)",
        base / "Annotations/x.xml",
    )
    assert told == "torch.Size([0, 4])" or "DataError" in told
    assert peak < 1000


def test_an_annotation_too_large_to_be_one_is_not_read(root: Path) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 5, 5))})
    with (base / "Annotations/x.xml").open("wb") as file:
        file.truncate(2**33)
    assert "8,589,934,592 bytes are too many" in refused(Voc07())


@pytest.mark.parametrize("name", ["../../x", "/etc/hostname", "..", "C:x", "a\\..\\..\\b"])
def test_lists_of_images_lead_nowhere_else(root: Path, name: str) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 5, 5))})
    (base / "ImageSets/Main/test.txt").write_text(f"{name}\n")
    assert "the list of images: " in refused(Voc07())


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("place", ["Annotations/x.xml", "JPEGImages/x.jpg", "ImageSets/Main/test.txt"])
@pytest.mark.timeout(20)
def test_what_is_no_file_of_voc_is_refused(root: Path, kind: str, place: str) -> None:
    base = voc(root, {"x": thing("cat", (1, 1, 5, 5))})
    (base / place).unlink()
    make, words = SPECIAL[kind]
    make(base / place)
    assert f"{place}: {words}" in refused(Voc07())


# ---- COCO --------------------------------------------------------------------------------------------

ANNOTATIONS = "coco/annotations/instances_train2014.json"


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([1, 2, -3, 4], "bbox [1, 2, -3, 4] is inverted"),
        ([1, 2, 3, -0.5], "bbox [1, 2, 3, -0.5] is inverted"),
        ([1, 2, 3], "but must be four numbers"),
        ([1, 2, 3, 4, 5], "but must be four numbers"),
        (["1", 2, 3, 4], "but must be four numbers"),
        ([None, 2, 3, 4], "but must be four numbers"),
        ([True, 2, 3, 4], "but must be four numbers"),
        ([[1], 2, 3, 4], "but must be four numbers"),
        ("1234", "but must be four numbers"),
        ({"x": 1}, "but must be four numbers"),
        ([1, 2, 10**12, 4], "but must be four numbers x, y, width, height within an image"),
        ([1, 2, 10**400, 4], "but must be four numbers"),
        ([1e300, 2, 3, 4], "but must be four numbers"),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, str) or value == "1234" else "",
)
def test_coco_boxes_that_are_none_name_the_annotation(root: Path, box: Any, words: str) -> None:
    coco(root, [note(100, 0, 0, 3, 3), {**note(100), "bbox": box, "id": 77}])
    text = refused(Coco20k())
    assert f"{ANNOTATIONS}: annotation 77: bbox" in text and words in text
    assert not list(root.parent.rglob("cache/coco/*"))  # nothing of it is kept


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 200_000, "is nested too deeply"),
        ('{"images":' * 100_000, "is nested too deeply"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [NaN, 0, 1, 1]}]}', "it holds NaN"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [0, 0, Infinity, 1]}]}', "it holds Infinity"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [0, 0, 1e999, 1]}]}', "must be four numbers"),
        ('{"images": [{"id": 1' + "0" * 5000 + "}]}", "is not JSON"),
        ('{"images": [{"id": 1, "file_name": "\\ud800.jpg"}], "annotations": []}', "lone surrogate"),
        ('{"images": 5, "annotations": []}', "is not COCO's instances file"),
        ('{"images": ["x"], "annotations": []}', "is not COCO's instances file"),
        ('{"images": [{"id": [], "file_name": "x"}], "annotations": []}', "is not COCO's instances file"),
        ('{"images": [], "annotations": ["x"]}', "is not COCO's instances file"),
        ('{"images": [], "annotations": [[]]}', "is not COCO's instances file"),
        ('{"images": [], "annotations": [{"image_id": {}, "bbox": [1, 2, 3, 4]}]}', "is not COCO's instances file"),
        ("[]", "is not COCO's instances file"),
        ("7", "is not COCO's instances file"),
    ],
    ids=lambda value: value[:40],
)
@pytest.mark.timeout(60)
def test_json_that_is_none_of_coco_is_one_line(root: Path, content: str, words: str) -> None:
    coco(root, [note(100, 0, 0, 3, 3)])
    (root / ANNOTATIONS).write_text(content)
    text = refused(Coco20k())
    assert text.startswith(str(root / ANNOTATIONS)) and words in text


def test_json_that_is_no_utf_8_is_one_line(root: Path) -> None:
    coco(root, [note(100, 0, 0, 3, 3)])
    (root / ANNOTATIONS).write_bytes(b'{"images": ["\xff\xfe"]}')
    assert "is not JSON" in refused(Coco20k())
    (root / "coco/coco_20k_filenames.txt").write_bytes(b"train2014/a.jpg\ntrain2014/\xff.jpg\n")
    assert "coco_20k_filenames.txt, line 2: byte 0xff is not UTF-8" in refused(Coco20k())


@pytest.mark.parametrize("name", ["/etc/hostname", "../../../etc/hostname", "train2014/../../x"])
def test_the_list_of_coco_leads_nowhere_else(root: Path, name: str) -> None:
    coco(root, [note(100, 0, 0, 3, 3)])
    (root / "coco/coco_20k_filenames.txt").write_text(f"{name}\n")
    assert "is not a path below" in refused(Coco20k())


def test_boxes_kept_in_the_cache_are_made_again_if_damaged(root: Path) -> None:
    coco(root, [note(100, 0, 0, 3, 3)])
    wanted = opened(Coco20k())[0].boxes.tolist()
    kept = next(root.parent.rglob("cache/coco/*.json"))
    for content in (b"[" * 100_000, b"{", b"\xff", b"[]", b"{}", b'{"a": 1}', json.dumps({"x": [[1]]}).encode()):
        kept.write_bytes(content)
        assert opened(Coco20k())[0].boxes.tolist() == wanted
