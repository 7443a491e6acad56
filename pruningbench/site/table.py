"""The table of all values."""

from __future__ import annotations

from collections.abc import Iterator

from pruningbench.site.files import File
from pruningbench.site.html import Html, Page
from pruningbench.site.source import Source


def pages(source: Source) -> Iterator[Page | File]:
    """Yield the page of the table."""
    yield Page("table.html", "All values", Html(""), wide=True)
