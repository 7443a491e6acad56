"""Human answers to the images of a data set, as stored in `Samples.human`.

Each class is one form of answer. A data set sets ``samples.human`` to one of them; human alignment
tasks say which one they read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NO_ANSWER = -1
"""In `HumanDecisions.answers`: the trial was shown but no valid answer was given; it counts as wrong."""

NOT_SHOWN = -2
"""In `HumanDecisions.answers`: the subject was never shown this image."""


@dataclass(frozen=True)
class HumanResponses:
    """Base of all forms of human answers."""


@dataclass(frozen=True)
class HumanDecisions(HumanResponses):
    """One category per image and subject, as in model-vs-human.

    Attributes:
        categories: names of the categories people could choose from.
        subjects: names of the S subjects.
        answers: (S, N) int64 positions in `categories`, `NO_ANSWER` or `NOT_SHOWN`.
        truth: (N,) int64 true category of each image (for a cue-conflict image, that of the shape).
        conditions: N names, the experimental condition of each image; all equal if there is only one.
        texture: (N,) int64 category of the texture in cue-conflict images, or None.
        controls: names of the conditions in which nothing is manipulated; comparisons leave them out.
    """

    categories: tuple[str, ...]
    subjects: tuple[str, ...]
    answers: Tensor
    truth: Tensor
    conditions: tuple[str, ...]
    texture: Tensor | None = None
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class HumanLabelCounts(HumanResponses):
    """How many people chose each class of an image, as in CIFAR-10H.

    Attributes:
        counts: (N, classes) int64, in the order of the data set's classes.
    """

    counts: Tensor


@dataclass(frozen=True)
class HumanOddOneOut(HumanResponses):
    """Triplets of images, and which image of each people found odd, as in THINGS.

    Attributes:
        triplets: (T, 3) int64 positions of samples.
        odd: (T,) int64 in 0..2, the position of the odd image in the triplet.
    """

    triplets: Tensor
    odd: Tensor


@dataclass(frozen=True)
class HumanTwoAlternatives(HumanResponses):
    """A reference and two candidates, and how many people found which candidate closer, as in NIGHTS.

    Attributes:
        triplets: (T, 3) int64 positions of samples: reference, left, right.
        right: (T,) float share of people, in [0, 1], who found the right-hand candidate closer.
    """

    triplets: Tensor
    right: Tensor


@dataclass(frozen=True)
class HumanMaps(HumanResponses):
    """Which parts of an image people found important, as in ClickMe.

    Attributes:
        maps: (N, H, W) float >= 0, larger = more important, in the pixels of the images.
    """

    maps: Tensor


@dataclass(frozen=True)
class HumanSimilarity(HumanResponses):
    """How similar people found each pair of images.

    Attributes:
        similarity: (N, N) float, symmetric, larger = more similar; NaN where a pair was not judged.
    """

    similarity: Tensor
