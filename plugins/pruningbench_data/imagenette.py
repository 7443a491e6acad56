"""The data set `imagenette`: ten easily distinguished classes of ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import DataCard, param
from pruningbench.images.fetch import Download
from pruningbench_data._disk import OnDisk, files_as_samples
from pruningbench_data._layouts import labelled_files
from pruningbench_data._sampling import Sampled

if TYPE_CHECKING:
    from pruningbench.contract import Samples

WNIDS = ("n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
         "n03394916", "n03417042", "n03425413", "n03445777", "n03888257")  # fmt: skip
"""Tench, English springer, cassette player, chain saw, church, French horn, garbage truck, gas pump, golf ball,
parachute."""
_MD5 = {
    "full": ("imagenette2", "fe2fc210e6bb7c5664d602c3cd71e612"),
    "320": ("imagenette2-320", "3df6f0d01a2c9592104656642f5e78a3"),
    "160": ("imagenette2-160", "e793b78cc4c9e9a4ccc0c1155377a412"),
}
"""Folder and md5 of each size, as in torchvision.datasets.Imagenette."""


@dataclass(frozen=True, kw_only=True)
class Imagenette(OnDisk, Sampled):
    """Imagenette: ten classes of ImageNet, about 9,500 train and 3,900 validation images, named by WordNet ids."""

    card: ClassVar[DataCard] = DataCard(
        licence="Apache-2.0 (list); images under the ImageNet terms",
        citation="J. Howard, Imagenette, 2019",
        homepage="https://github.com/fastai/imagenette",
        size=341_663_724,
        checksum="md5 3df6f0d01a2c9592104656642f5e78a3 (320 px)",
    )
    name: ClassVar[str] = "imagenette"
    place: ClassVar[str] = "imagenette"
    decides: ClassVar[tuple[str, ...]] = ("size",)

    split: Literal["train", "val"] = param("val", doc="train or val")
    size: Literal["320", "160", "full"] = param("320", doc="shorter side of the stored images in pixels")

    def needs(self) -> Sequence[str]:
        """Return the class folders of the split."""
        return [f"{_MD5[self.size][0]}/{self.split}/{wnid}" for wnid in WNIDS]

    def downloads(self) -> Sequence[Download]:
        """Return the archive of this size."""
        folder, md5 = _MD5[self.size]
        url = f"https://s3.amazonaws.com/fast-ai-imageclas/{folder}.tgz"
        return (Download(url, f"{folder}.tgz", md5=md5, unpack=True),)

    def open(self) -> Samples:
        """Return RGB images with labels; keys are ``WNID/FILE``."""
        root = self.folder() / _MD5[self.size][0] / self.split
        files, labels = labelled_files(root, WNIDS, self.classes)
        return files_as_samples(root, files, self.chosen(files, labels, WNIDS), self.remedy())
