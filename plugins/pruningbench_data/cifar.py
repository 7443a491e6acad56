"""The data sets `cifar10`, `cifar100`, and `cifar10h`, which has human labels of CIFAR-10's test images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import DataCard, param, read_text
from pruningbench.images.fetch import Download
from pruningbench_data._disk import OnDisk
from pruningbench_data._sampling import Sampled

if TYPE_CHECKING:
    from pruningbench.contract import Samples
    from pruningbench_data._cifar import Images

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CITATION = "A. Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto, 2009"
_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
COUNTS = "cifar10h-counts.npy"


@dataclass(frozen=True, kw_only=True)
class _Cifar(OnDisk, Sampled):
    """CIFAR in the binary version of the official archive, or as parquet files ``SPLIT.parquet``."""

    archive: ClassVar[Download]
    binaries: ClassVar[dict[str, tuple[str, ...]]]
    """Files of each split, below the data set's folder."""
    label_bytes: ClassVar[int] = 1
    """Label bytes before each image in the binary version; the last one counts."""

    split: Literal["train", "test"] = param("test", doc="train or test")

    def files(self) -> Sequence[str]:
        """Return the parquet file if it exists, else the files of the binary version."""
        parquet = f"{self.split}.parquet"
        return (parquet,) if (self.folder() / parquet).exists() else self.binaries[self.split]

    def needs(self) -> Sequence[str]:
        """Return the files of the images."""
        return self.files()

    def missing(self) -> str | None:
        """Return what is missing, which for parquet may be a package, or None."""
        from pruningbench_data._parquet import lacks_pyarrow

        lack = super().missing()
        return lack or (lacks_pyarrow() if self.files()[0].endswith(".parquet") else None)

    def downloads(self) -> Sequence[Download]:
        """Return the official archive of the binary version; pickles are never read."""
        return (self.archive,)

    def _images(self) -> Images:
        from pruningbench_data import _cifar

        paths = [self.folder() / path for path in self.files()]
        if paths[0].suffix == ".parquet":
            return _cifar.read_parquet(paths[0], self.split, self._names(paths[0].parent))
        return _cifar.read_binary(paths, self.split, self._names(paths[0].parent), self.label_bytes)

    @abstractmethod
    def _names(self, folder: Path) -> tuple[str, ...] | None:
        """Return the class names, or None if only the parquet file can provide them."""

    def open(self) -> Samples:
        """Return (3, 32, 32) images with labels; keys are ``SPLIT-INDEX`` in the official order."""
        images = self._images()
        return images.take(self.chosen(images.keys, images.labels, images.classes))


@dataclass(frozen=True, kw_only=True)
class Cifar10(_Cifar):
    """CIFAR-10: 50,000 train and 10,000 test images of 32 x 32 pixels in ten classes.

    Read from the binary version of the official archive (``cifar10/cifar-10-batches-bin``) or from
    ``cifar10/SPLIT.parquet`` (columns image, label, index).
    """

    card: ClassVar[DataCard] = DataCard(
        licence="not stated by the authors",
        citation=_CITATION,
        homepage=_HOME,
        size=170_052_171,
        checksum="md5 c32a1d4ab5d03f1284b67883e8d87530",
    )
    name: ClassVar[str] = "cifar10"
    place: ClassVar[str] = "cifar10"
    archive: ClassVar[Download] = Download(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        unpack=True,
    )
    binaries: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
        "test": ("cifar-10-batches-bin/test_batch.bin",),
    }

    def _names(self, folder: Path) -> tuple[str, ...]:
        return CIFAR10


@dataclass(frozen=True, kw_only=True)
class Cifar100(_Cifar):
    """CIFAR-100: 50,000 train and 10,000 test images of 32 x 32 pixels in a hundred classes.

    Read from the binary version of the official archive (``cifar100/cifar-100-binary``) or from
    ``cifar100/SPLIT.parquet``.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="not stated by the authors",
        citation=_CITATION,
        homepage=_HOME,
        size=168_513_733,
        checksum="md5 03b5dce01913d631647c71ecec9e9cb8",
    )
    name: ClassVar[str] = "cifar100"
    place: ClassVar[str] = "cifar100"
    archive: ClassVar[Download] = Download(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        unpack=True,
    )
    binaries: ClassVar[dict[str, tuple[str, ...]]] = {
        split: (f"cifar-100-binary/{split}.bin", "cifar-100-binary/fine_label_names.txt") for split in ("train", "test")
    }
    label_bytes: ClassVar[int] = 2

    def _names(self, folder: Path) -> tuple[str, ...] | None:
        names = folder / "fine_label_names.txt"
        return tuple(read_text(names).split()) if names.exists() else None


@dataclass(frozen=True, kw_only=True)
class Cifar10H(Cifar10):
    """CIFAR-10's test images with counts of how often people chose each class (about 50 people per image).

    Labels are CIFAR-10's; ``human`` holds the counts, in the order of the kept classes.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="CC BY-NC-SA 4.0",
        citation="J. Peterson et al., Human uncertainty makes classification more robust, ICCV 2019",
        homepage="https://github.com/jcpeterson/cifar-10h",
        size=170_852_299,
        checksum="md5 c32a1d4ab5d03f1284b67883e8d87530 (images), sha256 of the counts at the pinned commit",
    )
    name: ClassVar[str] = "cifar10h"

    split: Literal["test"] = param("test", doc="name of the split; only the test images were judged")

    def needs(self) -> Sequence[str]:
        """Return the files of the images and of the counts."""
        return (*self.files(), COUNTS)

    def downloads(self) -> Sequence[Download]:
        """Return the counts, and the archive if images are missing."""
        images = [path for path in self.files() if not (self.folder() / path).exists()]
        counts = Download(
            "https://raw.githubusercontent.com/jcpeterson/cifar-10h/48da312b193b82e6939ec20f23d1f09cbdd849c8/data/"
            + COUNTS,
            COUNTS,
            sha256="9b36b4550349af56c79083356312eb4af856cc5fd3caf1f669d40b9d0bbb69ff",
            size=800_128,
        )
        return (*((self.archive,) if images else ()), counts)

    def open(self) -> Samples:
        """Return (3, 32, 32) images with labels and ``human`` counts."""
        from pruningbench_data._cifar import read_counts

        images = self._images()
        choice = self.chosen(images.keys, images.labels, images.classes)
        return images.take(choice, read_counts(self.folder() / COUNTS))
