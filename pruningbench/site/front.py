"""The front page: the question, the answers, and why to believe them."""

from __future__ import annotations

from collections.abc import Iterator

from pruningbench.site.files import File
from pruningbench.site.html import Html, Page
from pruningbench.site.source import Source


def pages(source: Source) -> Iterator[Page | File]:
    """Yield the front page."""
    yield Page("index.html", "Which pruner keeps which ability?", Html(""))
