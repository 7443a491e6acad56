"""The data set `coco20k`: 19,817 images of COCO 2014 for measuring unsupervised object discovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pruningbench.contract import DataCard, param
from pruningbench.images.fetch import Download
from pruningbench_data._disk import OnDisk
from pruningbench_data._names import COCO_ANNOTATIONS as ANNOTATIONS
from pruningbench_data._names import COCO_LIST as LIST
from pruningbench_data._sampling import Limited

if TYPE_CHECKING:
    from pruningbench.contract import Samples


@dataclass(frozen=True, kw_only=True)
class Coco20k(OnDisk, Limited):
    """COCO 20k: 19,817 images of train2014 for unsupervised object discovery, with boxes of all objects.

    The list of images is that of H. V. Vo et al. (Toward unsupervised, multi-object discovery in large-scale
    image collections, ECCV 2020), as used by LOST. COCO's x, y, width, height are converted to corners. Crowds,
    boxes without area and images without a box are left out.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="CC BY 4.0 (annotations); images under Flickr's terms of use",
        citation="T.-Y. Lin et al., Microsoft COCO: common objects in context, ECCV 2014",
        homepage="https://cocodataset.org",
        size=13_764_000_000,
        checksum="none published (images, annotations); sha256 of the list at the pinned commit",
    )
    name: ClassVar[str] = "coco20k"
    place: ClassVar[str] = "coco"

    crowd: bool = param(False, doc="whether boxes around crowds count")

    def needs(self) -> Sequence[str]:
        """Return the list, the annotations and the folder of images."""
        return (LIST, ANNOTATIONS, "train2014")

    def downloads(self) -> Sequence[Download]:
        """Return those of the image list and COCO's own archives that are missing."""
        host = "http://images.cocodataset.org"
        lacking = [path for path in self.needs() if not (self.folder() / path).exists()]
        files = {
            LIST: Download(
                f"https://raw.githubusercontent.com/valeoai/LOST/fcedbecb644f18358a660ce58c739cc6374feda8/datasets/{LIST}",
                LIST,
                sha256="74637e9b4f93f2ebef9b1f664aff53edd1f41ef08dad97bd22ce8e455052b335",
                size=832_314,
            ),
            ANNOTATIONS: Download(
                f"{host}/annotations/annotations_trainval2014.zip", "annotations_trainval2014.zip", unpack=True
            ),
            "train2014": Download(f"{host}/zips/train2014.zip", "train2014.zip", unpack=True),
        }
        return [files[path] for path in lacking]

    def open(self) -> Samples:
        """Return RGB images with boxes; keys are the images' file names."""
        from pruningbench_data._coco import open_coco

        return open_coco(self.folder(), crowd=self.crowd, select=self.select, remedy=self.remedy())
