"""Addresses of the site's pages, made from names that may hold anything."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pruningbench.base.identity import content_hash

PageKind = Literal["model", "pruner", "recipe", "task", "metric", "run"]
"""What has a page of its own; also the name of the folder of these pages."""
PAGE_KINDS: tuple[PageKind, ...] = get_args(PageKind)

LONGEST = 40
"""Largest number of characters of a name that its address repeats."""
_OTHER = re.compile(r"[^a-z0-9]+")


def page_of(kind: PageKind, name: str) -> str:
    """Return the address of a page, relative to the site's folder: ``pruner/magnitude-erk-1f2e3d4c5b.html``.

    The address holds only lower-case ASCII letters, digits, "-", "/" and ".". Different names have different addresses,
    also where file names ignore case, because the hash of the whole name is a part of it.

    Args:
        kind: the kind of page.
        name: a label as the results spell it; for a run, the name that the site gives it.

    Raises:
        ValueError: for a kind that has no pages.
    """
    if kind not in PAGE_KINDS:
        raise ValueError(f"no pages of kind {kind!r}; kinds are: {', '.join(PAGE_KINDS)}")
    return f"{kind}/{slug(name)}.html"


def slug(name: str, *, readable: str | None = None) -> str:
    """Return a file name without extension for any text: harmless characters of the text, and ten digits of its hash.

    The hash has 40 bits; writing a site refuses two files with the same address.

    Args:
        name: decides the hash.
        readable: text whose harmless characters are shown instead of those of `name`.
    """
    words = _OTHER.sub("-", (name if readable is None else readable)[: 4 * LONGEST].lower())[:LONGEST].strip("-")
    digits = content_hash(name, length=10)
    return f"{words}-{digits}" if words else digits
