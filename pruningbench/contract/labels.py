"""Names of classes: ImageNet's WordNet ids, and what people call them.

Models and data sets meet by the names of their classes. For ImageNet those are the WordNet ids of the
classes (``n02123045``), as the folders of the data set are named; `class_title` turns one into words.
The lists come with timm.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal

ImageNetSubset = Literal[
    "imagenet-1k", "imagenet-12k", "imagenet-22k", "imagenet-22k-ms", "imagenet-21k-goog", "imagenet-21k-miil"
]


def imagenet_classes(subset: ImageNetSubset = "imagenet-1k") -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet's classes in the usual order of logits.

    Args:
        subset: the 1000 classes of the challenge, or one of the larger sets that networks are trained on.
    """
    return tuple(_info(subset).label_names())


def class_title(name: str, *, longest: int | None = None) -> str:
    """Return a class name in words: that of a WordNet id (``tabby, tabby cat``), any other as it is.

    Args:
        name: a class name.
        longest: largest number of characters; of a longer title only the first synonym is kept.
    """
    if not is_wordnet_id(name):
        return name
    try:
        title: str = _info("imagenet-1k").label_name_to_description(name)
    except KeyError:  # timm knows the nouns that ImageNet has; WordNet has more
        return name
    return title if longest is None or len(title) <= longest else title.split(",", maxsplit=1)[0]


def class_titles(names: Iterable[str]) -> tuple[str, ...]:
    """Return `class_title` of several names."""
    return tuple(class_title(name) for name in names)


def is_wordnet_id(name: str) -> bool:
    """Whether a name looks like the WordNet id of a noun: an n and eight digits."""
    return len(name) == 9 and name[0] == "n" and name[1:].isdecimal()


@cache
def _info(subset: str) -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo(subset)
