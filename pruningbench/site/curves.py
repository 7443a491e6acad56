"""Curves of every metric against sparsity, and a scatter of two metrics."""

from __future__ import annotations

from collections.abc import Iterator

from pruningbench.site.files import File
from pruningbench.site.html import Html, Page
from pruningbench.site.source import Source


def pages(source: Source) -> Iterator[Page | File]:
    """Yield the page of the curves."""
    yield Page("curves.html", "Metrics against sparsity", Html(""), wide=True)
