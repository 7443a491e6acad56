"""The data set `folder`: your own images, one folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import DataCard, expanded, param
from pruningbench.images.fetch import data_folder
from pruningbench_data._disk import OnDisk, files_as_samples
from pruningbench_data._layouts import class_folders, labelled_files
from pruningbench_data._sampling import Sampled

if TYPE_CHECKING:
    from pruningbench.contract import Samples


@dataclass(frozen=True, kw_only=True)
class Folder(OnDisk, Sampled):
    """Images in class folders: ``PATH/SPLIT/CLASS/IMAGE``; the folder names are the class names.

    Classes are numbered in alphabetical order. The fingerprint covers the images' content, names and labels.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="yours", citation="yours", obtain="put the images there as PATH/SPLIT/CLASS/IMAGE, or change `path`"
    )
    name: ClassVar[str] = "folder"
    place: ClassVar[str] = ""
    example = {"path": "my-images", "split": "val"}  # noqa: RUF012 - a constant of a frozen dataclass

    path: str = param(doc="the folder, below the data folder unless it is absolute")
    split: str = param("", doc="folder below `path` that holds the class folders; empty if `path` itself does")

    def folder(self) -> Path:
        """Return the folder that contains the class folders."""
        return data_folder() / expanded(self.path) / self.split

    def needs(self) -> Sequence[str]:
        """Return the folder itself."""
        return ("",)

    def missing(self) -> str | None:
        """Return which folder is missing and which splits exist, or None."""
        lack = super().missing()
        root = data_folder() / expanded(self.path)
        if lack and self.split and root.is_dir():
            folders = sorted(path.name for path in root.iterdir() if path.is_dir())
            some = ", ".join(folders[:8]) + (f" and {len(folders) - 8} more" if len(folders) > 8 else "")
            return f"{root} has no split {self.split!r} (folders there: {some or 'none'}); {self.remedy()}"
        return lack

    def open(self) -> Samples:
        """Return RGB images with labels; keys are the paths below the split's folder."""
        root = self.folder()
        names = class_folders(root)
        files, labels = labelled_files(root, names, self.classes)
        return files_as_samples(root, files, self.chosen(files, labels, names), "replace or remove it")
