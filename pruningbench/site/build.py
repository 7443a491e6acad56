"""Builds a site: one folder that opens from disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pruningbench.plugins import Registry
from pruningbench.site import curves, details, front, table
from pruningbench.site.boards import board_files
from pruningbench.site.files import MARKER, File, check_replaceable, write_folder
from pruningbench.site.html import Page, document
from pruningbench.site.source import Source, load_source
from pruningbench.version import __version__

HERE = Path(__file__).parent
PRODUCERS: tuple[Callable[[Source], Iterable[Page | File]], ...] = (
    front.pages,
    table.pages,
    curves.pages,
    details.pages,
)
"""What makes the pages and the files that they need, in this order."""

SERVED = (".css", ".js", ".svg", ".txt")
"""Kinds of files that are copied to the site from `assets` and `vendor`."""


@dataclass(frozen=True)
class Built:
    """A site that was written.

    Attributes:
        folder: where it is; open ``index.html`` in it.
        files: number of its files.
        size: bytes of all files.
    """

    folder: Path
    files: int
    size: int


def build_site(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    title: str | None = None,
    registry: Registry | None = None,
) -> Built:
    """Write the pages of one or more runs into a folder that needs no server.

    Args:
        runs: run folders, submissions, or other sources (`pruningbench.store.origins`).
        out: the folder; one that holds a site of this project is replaced as a whole.
        title: name of the site; by default the names of the suites.
        registry: the installed plugins by default.

    Raises:
        UsageError: if `out` holds anything else or cannot be written, or if a source is neither a run folder nor a
            submission, or is damaged.
    """
    folder = check_replaceable(out)
    source = load_source(runs, title=title, registry=registry)
    return Built(folder, *write_folder(folder, site_files(source)))


def site_files(source: Source) -> Iterator[File]:
    """Yield all files of a site."""
    for room in ("assets", "vendor"):
        for path in sorted((HERE / room).iterdir()):
            if path.suffix in SERVED:
                yield File(f"{room}/{path.name}", path.read_bytes())
    yield from board_files(source)
    for produce in PRODUCERS:
        for made in produce(source):
            if isinstance(made, Page):
                yield File(made.address, document(made, source.title).encode("utf-8"))
            else:
                yield made
    yield File(MARKER, (json.dumps({"pruningbench": __version__}) + "\n").encode())
