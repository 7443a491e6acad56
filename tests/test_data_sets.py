"""Labelled images: folders, ImageNet, Imagenette and CIFAR, made here in the standard layouts."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from kit.files import binary, cifar_images, class_folders, opened, png_table, save, shown
from kit.fileserver import FileServer
from pruningbench_data.cifar import CIFAR10, Cifar10, Cifar100
from pruningbench_data.folder import Folder
from pruningbench_data.imagenet import TASK_CLASSES, ImageNet, ImageNetTask
from pruningbench_data.imagenette import WNIDS, Imagenette
from pruningbench_data.voc import Voc07, Voc12

from pruningbench.errors import DataError, MissingDataError
from pruningbench.images.fetch import UNFINISHED, Download

pytestmark = pytest.mark.usefixtures("root")

# ---- folder ------------------------------------------------------------------------------------------


def test_folders_are_classes(root: Path) -> None:
    class_folders(root / "mine/train", {"dog": 2, "cat": 1})
    save(root / "mine/train/dog/deep/in.JPG", 7)
    (root / "mine/train/dog/notes.txt").write_text("no image")
    (root / "mine/train/.hidden").mkdir()
    samples = opened(Folder(path="mine", split="train"))
    assert samples.classes == ("cat", "dog")
    assert samples.labels.tolist() == [0, 1, 1, 1]
    assert samples.keys == ("cat/0.png", "dog/0.png", "dog/1.png", "dog/deep/in.JPG")
    assert shown(samples) == [2, 0, 1, 7]
    assert samples[1].image.shape == (3, 5, 6)
    assert opened(Folder(path=str(root / "mine/train"))).fingerprint == samples.fingerprint


def test_missing_folders_and_splits_are_named(root: Path) -> None:
    with pytest.raises(MissingDataError, match="data set folder: .*nothing is missing"):
        opened(Folder(path="nothing"))
    class_folders(root / "mine/val", {"a": 1})
    with pytest.raises(MissingDataError, match=r"mine has no split 'test' \(folders there: val\)"):
        opened(Folder(path="mine", split="test"))


def test_wrong_layouts_are_named(root: Path) -> None:
    save(root / "loose/a.png")
    with pytest.raises(DataError, match=r"loose: holds images, but they must lie in one folder per class"):
        opened(Folder(path="loose"))
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no class folders"):
        opened(Folder(path="empty"))
    class_folders(root / "half", {"a": 1})
    (root / "half/b").mkdir()
    with pytest.raises(DataError, match="half/b: the class folder holds no image .*; fill it or remove it"):
        opened(Folder(path="half"))
    assert len(opened(Folder(path="half", classes=("a",)))) == 1


def test_a_truncated_image_is_named(root: Path) -> None:
    path = save(root / "mine/a/0.jpg", 50, (64, 64))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"mine/a/0.jpg: the image cannot be decoded \(.*truncated.*\)"):
        opened(Folder(path="mine"))[0]


# ---- ImageNet ----------------------------------------------------------------------------------------


def test_imagenet_names_classes_by_wordnet_ids(root: Path) -> None:
    class_folders(root / "imagenet/val", {"n01443537": 2, "n01440764": 1})
    samples = opened(ImageNet())
    assert samples.classes == ("n01440764", "n01443537")
    assert samples.labels.tolist() == [0, 1, 1]
    (root / "imagenet/val").rename(root / "sample")
    assert opened(ImageNet(path="sample", split=None)).fingerprint == samples.fingerprint


def test_imagenet_in_another_layout_says_how_to_get_it_right(root: Path) -> None:
    with pytest.raises(MissingDataError, match="imagenet/val is missing; ImageNet needs an account: register at"):
        opened(ImageNet())
    class_folders(root / "imagenet/val", {"tench": 1})
    with pytest.raises(DataError, match="val/tench: class folders must be named by WordNet ids"):
        opened(ImageNet())
    with pytest.raises(DataError, match=r"imagenet/val: class folders .*; did you mean to set `split`\?"):
        opened(ImageNet(split=None))
    with pytest.raises(MissingDataError, match="ImageNet needs an account"):
        ImageNet(split="train").fetch()


def test_the_ten_tasks_are_disjoint_and_chosen_as_documented() -> None:
    import hashlib

    from timm.data.imagenet_info import ImageNetInfo

    tasks = [names.split() for names in TASK_CLASSES]
    wnids = ImageNetInfo("imagenet-1k").label_names()
    ranked = sorted(wnids, key=lambda wnid: hashlib.sha256(f"imagenet-10-tasks {wnid}".encode()).digest())
    assert tasks == [sorted(ranked[10 * t : 10 * t + 10]) for t in range(10)]
    assert len({wnid for task in tasks for wnid in task}) == 100


def test_a_task_holds_its_ten_classes(root: Path) -> None:
    names = TASK_CLASSES[3].split()
    class_folders(root / "imagenet/train", {**dict.fromkeys(names, 3), "n01440764": 2})
    samples = opened(ImageNetTask(task=3, split="train"))
    assert samples.classes == tuple(names)
    assert len(samples) == 30
    few = opened(ImageNetTask(task=3, split="train", limit=20, balanced=True))
    assert torch.bincount(few.labels).tolist() == [2] * 10
    with pytest.raises(MissingDataError, match=f"train/{TASK_CLASSES[4].split()[0]} is missing"):
        opened(ImageNetTask(task=4, split="train"))
    assert "0..9" in (ImageNetTask(task=10).problem() or "")


def test_imagenette(root: Path) -> None:
    class_folders(root / "imagenette/imagenette2-320/val", dict.fromkeys(WNIDS, 1))
    samples = opened(Imagenette())
    assert samples.classes == WNIDS
    assert samples.labels.tolist() == list(range(10))
    lack = Imagenette(size="160").missing() or ""
    assert "`pruningbench data fetch imagenette --set size=160`" in lack
    assert "imagenette2-160.tgz" in Imagenette(size="160").downloads()[0].url


def test_addresses_and_checksums_are_torchvisions() -> None:
    from torchvision import datasets

    archives = datasets.imagenette.Imagenette._ARCHIVES
    for size, theirs in (("full", "full"), ("320", "320px"), ("160", "160px")):
        (mine,) = Imagenette(size=size).downloads()
        assert (mine.url, mine.md5) == archives[theirs]
    years = datasets.voc.DATASET_YEAR_DICT
    wanted = [(years[year]["url"], years[year]["md5"]) for year in ("2007", "2007-test", "2012")]
    assert [(item.url, item.md5) for item in (*Voc07().downloads(), *Voc12().downloads())] == wanted


def test_a_folder_that_was_not_unpacked_to_the_end_is_missing(root: Path) -> None:
    class_folders(root / "imagenette/imagenette2-320/val", dict.fromkeys(WNIDS, 1))
    (root / "imagenette" / UNFINISHED).touch()
    with pytest.raises(MissingDataError, match="was not unpacked completely; get it with `pruningbench data fetch"):
        opened(Imagenette())


# ---- CIFAR -------------------------------------------------------------------------------------------


def test_cifar10_binary_and_parquet_hold_the_same(root: Path) -> None:
    images, labels = cifar_images(12), [i % 10 for i in range(12)]
    folder = root / "cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(binary(images, labels))
    first = opened(Cifar10())
    assert torch.equal(first.images, torch.from_numpy(images))
    assert (first.labels.tolist(), first.classes) == (labels, CIFAR10)
    pyarrow.parquet.write_table(png_table(images, labels, index=list(range(12))), root / "cifar10/test.parquet")
    second = opened(Cifar10())
    assert torch.equal(second.images, first.images)
    assert second.fingerprint == first.fingerprint
    assert second[3].key == "test-3"


def test_cifar10_train_is_five_files(root: Path) -> None:
    folder = root / "cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for i in range(1, 5):
        (folder / f"data_batch_{i}.bin").write_bytes(binary(cifar_images(3, i), [i] * 3))
    with pytest.raises(
        MissingDataError, match="data_batch_5.bin is missing; get it with `pruningbench data fetch cifar10"
    ):
        opened(Cifar10(split="train"))
    (folder / "data_batch_5.bin").write_bytes(binary(cifar_images(3, 5), [5] * 3))
    samples = opened(Cifar10(split="train"))
    assert samples.labels.tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    kept = opened(Cifar10(split="train", classes=("frog", "deer", "dog"), limit=2, balanced=True))
    assert len(kept) == 2


def test_cifar100_counts_the_fine_label(root: Path) -> None:
    folder = root / "cifar100/cifar-100-binary"
    folder.mkdir(parents=True)
    images = cifar_images(4)
    (folder / "test.bin").write_bytes(binary(images, [9, 9, 8, 8], [0, 99, 5, 5]))
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)) + "\n")
    samples = opened(Cifar100())
    assert samples.labels.tolist() == [0, 99, 5, 5]
    assert samples.classes[99] == "fine99"
    assert torch.equal(samples.images, torch.from_numpy(images))


@pytest.mark.parametrize("content", [b"", b"x" * 3072, b"x" * 3074])
def test_cifar_files_of_another_length_are_named(root: Path, content: bytes) -> None:
    folder = root / "cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(content)
    with pytest.raises(
        DataError, match="test_batch.bin: .* not a multiple of 3073, the size of an image; fetch the file again"
    ):
        opened(Cifar10())


def test_cifar_labels_out_of_range_and_wrong_sizes_are_named(root: Path) -> None:
    folder = root / "cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(binary(cifar_images(1), [10]))
    with pytest.raises(DataError, match="label 10 is out of range for 10 classes"):
        opened(Cifar10())
    small = cifar_images(1)[:, :, :8, :8]
    pyarrow.parquet.write_table(png_table(small, [0]), root / "cifar10/test.parquet")
    with pytest.raises(DataError, match=r"test.parquet, row 0 .*\(8, 8\) pixels, but CIFAR's have 32 x 32"):
        opened(Cifar10())


def test_fetching_cifar_reads_the_official_archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        content = binary(cifar_images(10), range(10))
        info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    server = FileServer()
    server.files["c.tgz"] = buffer.getvalue()
    md5 = hashlib.md5(buffer.getvalue()).hexdigest()
    monkeypatch.setattr(Cifar10, "archive", Download(server.url("c.tgz"), "c.tgz", md5=md5, unpack=True))
    Cifar10().fetch()
    assert len(opened(Cifar10())) == 10
    server.close()
    Cifar10().fetch()  # it is there: no network is needed
    with pytest.raises(MissingDataError, match="the fetch is complete, but .*data_batch_1.bin is missing"):
        monkeypatch.setattr("pruningbench.contract.dataset.fetch", lambda *_arguments: None)
        Cifar10(split="train").fetch()
