"""The data sets `voc07` and `voc12`: PASCAL VOC with boxes and segmentation masks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import DataCard, DataError, did_you_mean, param, read_text
from pruningbench.images.fetch import Download
from pruningbench_data._disk import OnDisk
from pruningbench_data._names import VOC_CLASSES as CLASSES
from pruningbench_data._sampling import Limited

if TYPE_CHECKING:
    from pruningbench.contract import Samples

_HOST = "https://thor.robots.ox.ac.uk/pascal/VOC"


@dataclass(frozen=True, kw_only=True)
class _Voc(OnDisk, Limited):
    """PASCAL VOC of one year in its own layout, ``VOCdevkit/VOCYEAR``.

    Boxes come from the XML files; their 1-based inclusive pixels are converted to 0-based corners with exclusive
    maxima (xmin and ymin are reduced by 1). Masks are read as palette indices of the PNG, not as colours: 0 is
    background, 1 to 20 are the classes, 255 is void (borders, and regions that the annotators left undecided).
    Images without a requested object are left out. Samples have no label, since images show several classes.
    """

    year: ClassVar[str]

    annotation: Literal["boxes", "masks", "filled-boxes"] = param(
        "boxes",
        doc="boxes: the images of ImageSets/Main; masks: those of ImageSets/Segmentation, with boxes and masks; "
        "filled-boxes: those of ImageSets/Main, with all pixels inside a box as the mask",
    )
    classes: tuple[str, ...] | None = param(None, doc="classes whose objects count; null for all twenty")
    difficult: bool = param(True, doc="whether objects marked difficult count among the boxes")
    void: Literal["background", "object"] = param("background", doc="what the mask's void pixels (255) count as")

    def problem(self) -> str | None:
        """Check the classes."""
        for name in self.classes or ():
            if name not in CLASSES:
                return f"classes: there is no class {name!r}{did_you_mean(name, CLASSES)}"
        if self.classes is not None and (not self.classes or len(set(self.classes)) < len(self.classes)):
            return f"classes must list at least one class, each once, got {list(self.classes)}"
        return super().problem()

    @property
    @abstractmethod
    def image_set(self) -> str:
        """Name of the image list in ImageSets."""

    @property
    def root(self) -> Path:
        """Folder of the year."""
        return self.folder() / "VOCdevkit" / f"VOC{self.year}"

    def needs(self) -> Sequence[str]:
        """Return the list of images and the folders to which it refers."""
        kind = "Segmentation" if self.annotation == "masks" else "Main"
        folders = ("JPEGImages", "Annotations", *(("SegmentationClass",) if self.annotation == "masks" else ()))
        inside = f"VOCdevkit/VOC{self.year}"
        return [f"{inside}/ImageSets/{kind}/{self.image_set}.txt", *(f"{inside}/{name}" for name in folders)]

    def open(self) -> Samples:
        """Return RGB images with boxes, and masks if requested; keys are the image names."""
        from pruningbench_data._voc import open_voc

        names = read_text(self.folder() / self.needs()[0]).splitlines()
        keys = [line.split()[0] for line in names if line.strip()]
        if not keys:
            raise DataError(f"{self.folder() / self.needs()[0]}: the list of images is empty; {self.remedy()}")
        return open_voc(
            self.root,
            keys,
            self.classes or CLASSES,
            difficult=self.difficult,
            masks=self.annotation,
            void=self.void,
            select=self.select,
            remedy=self.remedy(),
        )


@dataclass(frozen=True, kw_only=True)
class Voc07(_Voc):
    """PASCAL VOC 2007: boxes and masks of twenty classes; the usual data set for unsupervised object discovery.

    The download holds train, val and test. Boxes, masks and void are described under `voc12`.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="annotations as published; images under Flickr's terms of use",
        citation="M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88, 2010",
        homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
        size=911_000_000,
        checksum="md5 c52e279531787c972589f7e41ab4ae64 (trainval), b6e924de25625d8de591ea690078ad9f (test)",
    )
    name: ClassVar[str] = "voc07"
    place: ClassVar[str] = "voc07"
    year: ClassVar[str] = "2007"

    split: Literal["train", "val", "trainval", "test"] = param("test", doc="name of the image list")

    @property
    def image_set(self) -> str:
        """The split."""
        return self.split

    def downloads(self) -> Sequence[Download]:
        """Return both archives; addresses and md5 as in torchvision.datasets.voc."""
        trainval, test = f"{_HOST}/voc2007/VOCtrainval_06-Nov-2007.tar", f"{_HOST}/voc2007/VOCtest_06-Nov-2007.tar"
        return (
            Download(trainval, "VOCtrainval_06-Nov-2007.tar", md5="c52e279531787c972589f7e41ab4ae64", unpack=True),
            Download(test, "VOCtest_06-Nov-2007.tar", md5="b6e924de25625d8de591ea690078ad9f", unpack=True),
        )


@dataclass(frozen=True, kw_only=True)
class Voc12(_Voc):
    """PASCAL VOC 2012: boxes and masks of twenty classes. The annotations of its test set are not public.

    Boxes are 0-based with exclusive maxima. Masks are palette indices; the parameter `void` says what index 255
    (void) counts as. Objects marked difficult count unless `difficult` is false.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="annotations as published; images under Flickr's terms of use",
        citation="M. Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, IJCV 111, 2015",
        homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        size=1_999_639_040,
        checksum="md5 6cd6e144f989b92b3379bac3b3de84fd",
    )
    name: ClassVar[str] = "voc12"
    place: ClassVar[str] = "voc12"
    year: ClassVar[str] = "2012"

    split: Literal["train", "val", "trainval"] = param("val", doc="name of the image list")

    @property
    def image_set(self) -> str:
        """The split."""
        return self.split

    def downloads(self) -> Sequence[Download]:
        """Return the archive; address and md5 as in torchvision.datasets.voc."""
        url = f"{_HOST}/voc2012/VOCtrainval_11-May-2012.tar"
        return (Download(url, "VOCtrainval_11-May-2012.tar", md5="6cd6e144f989b92b3379bac3b3de84fd", unpack=True),)
