"""Class names: ImageNet's WordNet ids, and the words for them.

Models and data sets are matched by their class names. For ImageNet these are the WordNet ids of the
classes (``n02123045``), as in the folder names of the data set; `class_title` turns one into words.
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
    """Return the WordNet ids of ImageNet's classes in the usual order of the logits.

    Args:
        subset: the 1000 classes of the challenge, or one of the larger sets that networks are trained on.
    """
    return tuple(_info(subset).label_names())


def class_title(name: str, *, longest: int | None = None) -> str:
    """Return a class name in words: the words for a WordNet id (``tabby, tabby cat``), any other name unchanged.

    Args:
        name: a class name.
        longest: maximum number of characters; a longer title is cut to its first synonym.
    """
    if not is_wordnet_id(name):
        return name
    try:
        title: str = _info("imagenet-1k").label_name_to_description(name)
    except KeyError:  # timm knows only ImageNet's nouns; WordNet has more
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
