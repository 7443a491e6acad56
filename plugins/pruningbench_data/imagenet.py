"""ImageNet-1k: the data set `imagenet`, and `imagenet-10-tasks`, ten small tasks cut out of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import DataCard, DataError, expanded, param
from pruningbench.images.fetch import data_folder
from pruningbench_data._disk import OnDisk, files_as_samples
from pruningbench_data._layouts import class_folders, labelled_files
from pruningbench_data._sampling import Sampled

if TYPE_CHECKING:
    from pruningbench.contract import Samples

TASKS = 10
_WNID = re.compile(r"n\d{8}")
_CARD = DataCard(
    licence="ImageNet terms of access: non-commercial research and education",
    citation="O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 115, 2015",
    homepage="https://image-net.org",
    size=144_000_000_000,
    checksum="md5 1d675b47d978889d74fa0da5fadfb00e (train), 29b22e2961454d5413ddabcf34fc5622 (val)",
    obtain=(
        "ImageNet needs an account: register at https://image-net.org, unpack the images of ILSVRC 2012 to "
        "imagenet/train/WNID/*.JPEG and imagenet/val/WNID/*.JPEG (torchvision's layout) and set "
        "PRUNINGBENCH_DATA to the folder that holds imagenet/"
    ),
)


@dataclass(frozen=True, kw_only=True)
class _ImageNetFolders(OnDisk):
    """Folders named by WordNet ids below ``PATH/SPLIT``."""

    place: ClassVar[str] = "imagenet"
    card: ClassVar[DataCard] = _CARD

    split: Literal["train", "val"] | None = param(
        "val", doc="train or val; null if the class folders are directly in `path`"
    )
    path: str = param("imagenet", doc="folder of the splits, below the data folder unless it is absolute")

    def folder(self) -> Path:
        """Return the folder that contains the class folders."""
        return data_folder() / expanded(self.path) / (self.split or "")

    def needs(self) -> Sequence[str]:
        """Return the folder itself."""
        return ("",)


@dataclass(frozen=True, kw_only=True)
class ImageNet(_ImageNetFolders, Sampled):
    """ImageNet-1k (ILSVRC 2012) in torchvision's layout; classes are named by their WordNet ids.

    The classes are the existing folders in alphabetical order, which is the usual order of the 1000 classes.
    """

    name: ClassVar[str] = "imagenet"

    def open(self) -> Samples:
        """Return RGB images with labels; keys are ``WNID/FILE``."""
        root = self.folder()
        names = class_folders(root)
        for name in names:
            if not _WNID.fullmatch(name):
                hint = "; did you mean to set `split`?" if name in ("train", "val") else ""
                raise DataError(f"{root / name}: class folders must be named by WordNet ids like n01440764{hint}")
        files, labels = labelled_files(root, names, self.classes)
        return files_as_samples(root, files, self.chosen(files, labels, names), self.card.obtain)


TASK_CLASSES = (
    "n01756291 n01955084 n02108551 n02115913 n02229544 n02398521 n03804744 n04447861 n04485082 n04487081",
    "n02099267 n02110806 n02488702 n03000684 n03100240 n03710637 n03733805 n03770679 n04325704 n04560804",
    "n01806143 n02102177 n02111277 n02114712 n02397096 n02786058 n02894605 n03124170 n03776460 n04399382",
    "n01580077 n01622779 n01697457 n01829413 n02086240 n02096294 n02108422 n02417914 n02484975 n03220513",
    "n01704323 n02102973 n02127052 n02317335 n02669723 n02795169 n03160309 n03935335 n04116512 n04344873",
    "n01641577 n02087046 n02489166 n03028079 n03133878 n03187595 n03207743 n03627232 n03840681 n06785654",
    "n02110063 n02319095 n02487347 n02977058 n02988304 n03710193 n03929660 n04136333 n04357314 n13133613",
    "n01669191 n02094114 n02264363 n02490219 n03697007 n04065272 n04147183 n04154565 n04311004 n07248320",
    "n02102318 n02110341 n02281787 n02321529 n02804610 n02823750 n02951585 n03259280 n04310018 n04435653",
    "n01735189 n02356798 n02500267 n03197337 n03249569 n03482405 n03617480 n03791053 n07747607 n09229709",
)
"""The ten WordNet ids of each task, sorted; no class is in two tasks.

The choice is pruningbench's own, because the paper's lists were not published: the 1000 ids are ranked by the SHA-256
of ``imagenet-10-tasks ID``, and task t takes ranks 10 t to 10 t + 9.
"""


@dataclass(frozen=True, kw_only=True)
class ImageNetTask(_ImageNetFolders, Sampled):
    """One of ten disjoint 10-class subsets of ImageNet, for transfer from one task to the others.

    The protocol is that of A Second-Order Perspective on Pruning at Initialization and Knowledge Transfer
    (arXiv 2509.24066). The classes are this project's own choice, see `TASK_CLASSES`: the paper's lists are
    not public, so accuracies are comparable with each other, but not with the paper's.
    """

    name: ClassVar[str] = "imagenet-10-tasks"

    task: int = param(0, doc="number of the task, 0..9")

    def problem(self) -> str | None:
        """Check the ranges."""
        if not 0 <= self.task < TASKS:
            return f"task is {self.task}, but must lie in 0..{TASKS - 1}"
        return super().problem()

    def needs(self) -> Sequence[str]:
        """Return the class folders."""
        return self.classes or TASK_CLASSES[self.task].split()

    def open(self) -> Samples:
        """Return RGB images with labels 0..9; keys are ``WNID/FILE``."""
        root, names = self.folder(), TASK_CLASSES[self.task].split()
        files, labels = labelled_files(root, names, self.classes)
        return files_as_samples(root, files, self.chosen(files, labels, names), self.card.obtain)
