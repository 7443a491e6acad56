"""Tables of strangers: parquet, CSV and lists whose sizes lie, whose names lead elsewhere, whose numbers are none."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from kit.files import binary, cifar_images, opened, png_table
from kit.hostilefiles import SPECIAL, peak_memory
from kit.humandata import NIGHTS_HEAD, NIGHTS_ROWS, two_people
from pruningbench_data import _parquet
from pruningbench_data.cifar import Cifar10, Cifar10H, Cifar100
from pruningbench_data.hub import Hub
from pruningbench_data.model_vs_human import ModelVsHuman
from pruningbench_data.triplets import Nights, Things

from pruningbench.errors import DataError, PruningBenchError


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRUNINGBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        work()
    text = str(caught.value)
    assert text.isprintable() and len(text) < 700
    return text


def first(dataset: Any) -> Callable[[], object]:
    return lambda: opened(dataset)[0]


# ---- parquet -----------------------------------------------------------------------------------------


def table(root: Path, content: pyarrow.Table, **how: Any) -> Path:
    (root / "t").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(content, root / "t/test.parquet", **how)
    return root / "t/test.parquet"


HUB = Hub(path="t")


def described(**feature: Any) -> bytes:
    return json.dumps({"info": {"features": {"label": feature}}}).encode()


@pytest.mark.parametrize(
    ("noted", "words"),
    [
        (b"[" * 100_000, "is nested too deeply"),
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (described(names="ab"), "names of column 'label' must be a list of strings"),
        (described(names=[1, 2]), "names of column 'label' must be a list of strings"),
        (described(names={"a": 1}), "names of column 'label' must be a list of strings"),
        (b'{"info": [1]}', "must be a list of strings"),
        (b'{"info": {"features": "x"}}', "must be a list of strings"),
        (b"5", "must be a list of strings"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_metadata_of_strangers_is_one_line(root: Path, noted: bytes, words: str) -> None:
    content = png_table(cifar_images(2), [0, 1]).replace_schema_metadata({b"huggingface": noted})
    path = table(root, content)
    text = refused(first(HUB))
    assert text.startswith(f"{path}: metadata 'huggingface'") and words in text


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 2**40], "holds 1099511627776, but labels must lie in 0..1048575"),
        ([0, -1], "holds -1, but labels must lie in"),
        ([0.0, 1.0], "holds 0.0, but labels must lie in"),
        ([True, False], "holds True, but labels must lie in"),
        ([b"a", b"b"], "holds b'a', but labels must lie in"),
        ([[0], [1]], "holds [0], but labels must lie in"),
        ([0, None], "has rows without a label"),
    ],
    ids=str,
)  # fmt: skip
def test_labels_that_number_no_classes_are_named(root: Path, labels: list[Any], words: str) -> None:
    path = table(root, png_table(cifar_images(2), labels))
    text = refused(first(HUB))
    assert text.startswith(f"{path}: column 'label'") and words in text


@pytest.mark.parametrize("images", [[None, None], [b"", b""], [b"x", b"y"], ["a", "b"], [1, 2], [{"x": 1}, {"x": 2}]])
def test_rows_that_hold_no_image_are_named(root: Path, images: list[Any]) -> None:
    path = table(root, pyarrow.table({"image": images, "label": [0, 1]}))
    assert refused(first(HUB)).startswith(f"{path}, row 0 of the split: the image cannot be decoded (")


def test_a_damaged_table_is_one_line(root: Path) -> None:
    path = table(root, png_table(cifar_images(40), [0, 1] * 20))
    content = path.read_bytes()
    for damage in (b"", b"PAR1", content[:-100], content[: len(content) // 2] + content[-500:], b"\0" * 5000):
        path.write_bytes(damage)
        assert refused(first(HUB)).startswith(str(path))
    for start in range(4, 3000, 300):
        path.write_bytes(content[:start] + b"\xff" * 60 + content[start + 60 :])
        try:
            for sample in opened(HUB):
                assert sample.image.shape == (3, 32, 32)
        except DataError as error:
            assert str(error).startswith(str(path)) and str(error).isprintable()


def test_a_table_of_more_rows_than_any_split_is_refused(root: Path) -> None:
    """A billion equal labels are a few kilobytes."""
    rows = 300_000_000
    path = root / "t/test.parquet"
    path.parent.mkdir()
    columns = pyarrow.schema([("image", pyarrow.null()), ("label", pyarrow.int8())])
    with pyarrow.parquet.ParquetWriter(path, columns) as writer:
        batch = pyarrow.table({"image": pyarrow.nulls(10**7), "label": pyarrow.array(np.zeros(10**7, np.int8))})
        for _ in range(rows // 10**7):
            writer.write_table(batch.cast(columns), row_group_size=10**7)
    assert path.stat().st_size < 2 * 10**6
    code = "import os\nos.environ['PRUNINGBENCH_DATA'] = args[0]\nfrom pruningbench_data.hub import Hub\n"
    told, peak = peak_memory(
        code + "try: print(len(Hub(path='t').load(None)))\nexcept Exception as e: print(type(e).__name__, e)", root
    )
    assert told == f"DataError {path}: states 300,000,000 rows; at most 16,777,216 are read"
    assert peak < 900


def test_a_group_of_repeated_images_does_not_fill_the_memory(root: Path) -> None:
    """One value of 4 MB, repeated by reference: 2,000 rows become 8 GB when they are read."""
    value = np.random.default_rng(0).bytes(4_000_000)
    repeated = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2000, pyarrow.int32()), pyarrow.array([value]))
    path = table(
        root, pyarrow.table({"image": repeated, "label": [0] * 2000}), store_schema=False, row_group_size=2000,
        use_dictionary=True, dictionary_pagesize_limit=2**30,
    )  # fmt: skip
    assert path.stat().st_size < 10**7
    code = (
        "import os\nos.environ['PRUNINGBENCH_DATA'] = args[0]\nfrom pruningbench_data.hub import Hub\n"
        "from pruningbench_data import _parquet\n_parquet.LARGEST_GROUP = 2**28\n"
    )
    told, peak = peak_memory(
        code + "try: print(Hub(path='t').load(None)[0])\nexcept Exception as e: print(type(e).__name__, e)", root
    )
    assert told.startswith(f"DataError {path}: row group 0 holds more than 268,435,456 bytes of images")
    assert peak < 1400


def test_rows_are_found_across_groups_and_batches(root: Path) -> None:
    images = cifar_images(75)
    table(root, png_table(images, list(range(75))), row_group_size=40)
    shown = [sample.image.numpy() for sample in opened(HUB)]
    assert np.array_equal(shown, images)
    assert [sample.label for sample in opened(HUB)] == list(range(75))
    assert _parquet.AT_ONCE < 40


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_no_table(root: Path, kind: str) -> None:
    (root / "t").mkdir()
    make, words = SPECIAL[kind]
    make(root / "t/test.parquet")
    assert words in refused(first(HUB))


@pytest.mark.parametrize("index", [["a", "b"], [-1, 0], [1.5, 2.5], [10**18, 0], [None, 1]], ids=str)
def test_places_in_an_order_are_whole_numbers(root: Path, index: list[Any]) -> None:
    (root / "cifar10").mkdir()
    pyarrow.parquet.write_table(png_table(cifar_images(2), [0, 1], index=index), root / "cifar10/test.parquet")
    assert "column 'index' holds" in refused(first(Cifar10()))


def test_a_place_beyond_the_counts_is_named(root: Path) -> None:
    (root / "cifar10").mkdir()
    np.save(root / "cifar10/cifar10h-counts.npy", np.ones((10_000, 10)))
    pyarrow.parquet.write_table(png_table(cifar_images(1), [0], index=[10_000]), root / "cifar10/test.parquet")
    assert "image 10000 has no counts" in refused(first(Cifar10H()))


# ---- CIFAR -------------------------------------------------------------------------------------------


def npy(shape: str, kind: str = "<f8") -> bytes:
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


def zipped_arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npy("(1000000000000, 10)"),
        npy("(10000, 10)", "|O"),
        npy("(10000, 10)", "<U4") + b"\0" * 10**6,
        npy("(-1, 10)"),
        npy("(" * 90),
        npy("9" * 60),
        npy("(10000, 10)", "|V8") + b"\0" * 800_000,
        np.lib.format.MAGIC_PREFIX if hasattr(np.lib.format, "MAGIC_PREFIX") else b"\x93NUMPY",
        zipped_arrays(),
        b"",
        b"cos\nsystem\n(S'true'\ntR.",
        npy("(10000, 10)") + np.full((10_000, 10), np.nan).tobytes(),
    ],
    ids=["huge", "objects", "texts", "negative", "nested", "number", "void", "magic", "zip", "empty", "pickle", "nan"],
)
def test_counts_that_are_none_are_one_line(root: Path, content: bytes) -> None:
    (root / "cifar10/cifar-10-batches-bin").mkdir(parents=True)
    (root / "cifar10/cifar-10-batches-bin/test_batch.bin").write_bytes(binary(cifar_images(1), [3]))
    (root / "cifar10/cifar10h-counts.npy").write_bytes(content)
    assert "cifar10h-counts.npy" in refused(first(Cifar10H()))


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.timeout(20)
def test_what_is_no_file_of_cifar_is_refused(root: Path, kind: str) -> None:
    folder = root / "cifar100/cifar-100-binary"
    folder.mkdir(parents=True)
    make, words = SPECIAL[kind]
    make(folder / "test.bin")
    (folder / "fine_label_names.txt").write_text("a b")
    assert f"test.bin: {words}" in refused(first(Cifar100()))
    (folder / "fine_label_names.txt").write_bytes(b"a\n\xff")
    assert "fine_label_names.txt, line 2: byte 0xff is not UTF-8" in refused(first(Cifar100()))


# ---- answers of people -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("7,0,1,6", "7,0,nan,6"), "column 'right_vote' holds 'nan', which is not a number"),
        (lambda text: text.replace("7,0,1,6", "7,0,1,inf"), "column 'votes' holds 'inf', which is not a number"),
        (lambda text: text.replace("7,0,1,6", "7,0,1," + "9" * 5000), "column 'votes' holds '999"),
        (lambda text: text.replace("distort/000/007_0.png", "/etc/hostname"), "triplet 7: column 'left_path': '/etc/"),
        (lambda text: text.replace("ref/000/007.png", "../../x.png"), "column 'ref_path': '../../x.png' is not a path"),
        (lambda text: text.replace("ref/000/007.png", ""), "column 'ref_path': '' is not a path"),
        (lambda text: text.replace("\n7,", '\n"7' + "7" * 200_000 + ","), "is not CSV"),
    ],
)
def test_tables_of_triplets_hold_numbers_and_paths(nights: Path, change: Callable[[str], str], words: str) -> None:
    (nights / "data.csv").write_text(change(f"{NIGHTS_HEAD}\n{NIGHTS_ROWS}"))
    text = refused(first(Nights()))
    assert str(nights / "data.csv") in text and words in text


def test_a_short_row_and_bytes_that_are_no_text(nights: Path) -> None:
    (nights / "data.csv").write_text(f"{NIGHTS_HEAD}\n7,0,1,6,,,,test\n")
    assert "'ref_path': '' is not a path" in refused(first(Nights()))
    (nights / "data.csv").write_bytes(f"{NIGHTS_HEAD}\n{NIGHTS_ROWS}".encode() + b"\xff")
    assert "data.csv, line 6: byte 0xff is not UTF-8" in refused(first(Nights()))
    (nights / "data.csv").write_bytes(b"")
    assert "there is no column 'id'" in refused(first(Nights()))


@pytest.mark.parametrize("line", ["0 1 inf", "0 1 nan", "0 1 2.5", "0 1 1e300", "0 1 " + "9" * 500])
def test_trials_name_whole_objects(things: Path, line: str) -> None:
    (things / "triplet_dataset/validationset.txt").write_text(f"{line}\n")
    assert "validationset.txt, line 1: '0 1 " in refused(first(Things()))


@pytest.mark.parametrize("name", ["../../../etc", "/etc", "a/../../.."])
def test_objects_lead_nowhere_else(things: Path, name: str) -> None:
    (things / "variables/unique_id.txt").write_text(f"{name}\nbee\ncup\ndoor\n")
    assert "unique_id.txt: " in refused(first(Things()))


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.timeout(20)
def test_what_is_no_file_of_answers_is_refused(root: Path, kind: str) -> None:
    two_people(root)
    path = next((root / "model-vs-human/raw-data").rglob("*.csv"))
    path.unlink()
    make, words = SPECIAL[kind]
    make(path)
    with pytest.raises(PruningBenchError, match=words):
        opened(ModelVsHuman(experiment=path.parent.name))


@pytest.mark.parametrize("content", [b"\xff\xfe", b'subj,"', b"subj\n" + b"x" * 200_000, b"\0,\0\n\0", b""])
def test_answers_that_are_no_table_are_one_line(root: Path, content: bytes) -> None:
    two_people(root)
    path = next((root / "model-vs-human/raw-data").rglob("*.csv"))
    path.write_bytes(content)
    assert refused(first(ModelVsHuman(experiment=path.parent.name))).startswith(str(path))
