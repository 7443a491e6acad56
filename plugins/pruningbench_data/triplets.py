"""The data sets `things` and `nights`: triplets of images with human judgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import DataCard, param
from pruningbench.images.fetch import Download
from pruningbench_data._disk import OnDisk
from pruningbench_data._names import THINGS_CONCEPTS as CONCEPTS
from pruningbench_data._sampling import Limited

if TYPE_CHECKING:
    from pruningbench.contract import Samples

_TRIALS = {"train": "trainset", "validation": "validationset", "test1": "testset1", "test2": "testset2",
           "test3": "testset3"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Things(OnDisk, Limited):
    """THINGS odd-one-out: one photograph of each of 1,854 objects, and which of three is odd according to people.

    Layout below ``things/``, as published by the authors: ``object_images/OBJECT/OBJECT_01b.jpg`` (the photographs
    of the experiment; if one is missing, the first in its folder), ``variables/unique_id.txt`` (the objects in order)
    and ``triplet_dataset/*set*.txt`` with three 0-based objects per line, of which the third was chosen as odd. A
    limit counts trials; samples are the objects in these trials.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="CC BY 4.0 (judgements); photographs for research only, under their owners' terms",
        citation="M. Hebart et al., Revealing the multidimensional mental representations of natural objects underlying"
        " human similarity judgements, Nature Human Behaviour 4, 2020",
        homepage="https://things-initiative.org",
        obtain=(
            "THINGS asks for a password, given on https://osf.io/jum2f: unpack the photographs to "
            "things/object_images/OBJECT/, and from https://osf.io/z2784 and https://osf.io/f5rn6 the trials to "
            "things/triplet_dataset/*.txt and the objects to things/variables/unique_id.txt; set PRUNINGBENCH_DATA "
            "to the folder that holds things/"
        ),
    )
    name: ClassVar[str] = "things"
    place: ClassVar[str] = "things"

    split: Literal["train", "validation", "test1", "test2", "test3"] = param(
        "validation", doc="which trials: the 90 % or 10 % split, or a set of repeated trials"
    )

    @property
    def trials(self) -> str:
        """The file of trials, below the folder."""
        return f"triplet_dataset/{_TRIALS[self.split]}.txt"

    def needs(self) -> Sequence[str]:
        """Return the trials, the objects and the photographs."""
        return (self.trials, CONCEPTS, "object_images")

    def open(self) -> Samples:
        """Return RGB photographs with ``human`` odd-one-out trials; keys are the objects."""
        from pruningbench_data._triplets import open_things

        return open_things(self.folder(), self.trials, select=self.select, remedy=self.remedy())


@dataclass(frozen=True, kw_only=True)
class Nights(OnDisk, Limited):
    """NIGHTS: triplets of synthetic images, and which of two is closer to the third according to people.

    Layout below ``nights/``, as unpacked: ``data.csv`` (id, votes, left_vote, right_vote, ref_path, left_path,
    right_path, split, is_imagenet) and the folders ``ref`` and ``distort``. The authors keep triplets with
    at least six votes, all for one side. A limit counts triplets; samples are the images in these triplets.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="MIT",
        citation="S. Fu et al., DreamSim: learning new dimensions of human visual similarity using synthetic data, "
        "NeurIPS 2023",
        homepage="https://dreamsim-nights.github.io",
        size=58_000_000_000,
    )
    name: ClassVar[str] = "nights"
    place: ClassVar[str] = "nights"

    split: Literal["train", "val", "test"] = param("test", doc="train, val or test")
    votes: int = param(6, doc="minimum votes for a triplet, >= 1")
    images: Literal["all", "imagenet", "other"] = param(
        "all", doc="triplets generated from ImageNet class names (imagenet), from other names (other), or all"
    )

    def problem(self) -> str | None:
        """Check the ranges."""
        return f"votes is {self.votes}, but must be at least 1" if self.votes < 1 else super().problem()

    def needs(self) -> Sequence[str]:
        """Return the table and the folders of images."""
        return ("data.csv", "ref", "distort")

    def downloads(self) -> Sequence[Download]:
        """Return the authors' archive (58 GB unpacked); its folder ``nights`` is the data set's folder."""
        return (Download("https://data.csail.mit.edu/nights/nights.zip", "nights.zip", unpack=True, strip="nights"),)

    def open(self) -> Samples:
        """Return RGB images with ``human`` choices; keys are the paths in the table."""
        from pruningbench_data._triplets import open_nights

        return open_nights(self.folder(), self.split, self.votes, self.images, select=self.select, remedy=self.remedy())
