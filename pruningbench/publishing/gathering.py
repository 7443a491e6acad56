"""What a folder holds that can be published: runs, submissions, or a site."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pruningbench.base.files import expanded, not_plain, read_plain
from pruningbench.base.reading import printable
from pruningbench.errors import UsageError
from pruningbench.plugins import Registry
from pruningbench.publishing.dataset import Item
from pruningbench.publishing.submitting import submit
from pruningbench.site.files import MARKER
from pruningbench.store.hub import MOST_BYTES, MOST_FILES
from pruningbench.store.runfolder import RESULTS
from pruningbench.store.submission_format import SUFFIX

MOST_SITE_FILES = 20_000
"""Largest number of files of a site that is published as it is."""
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/){0,4}[A-Za-z0-9_-][A-Za-z0-9._-]*")


def is_site(folder: Path) -> bool:
    """Whether a folder is a site that `pruningbench site` wrote."""
    return folder.is_dir() and os.path.lexists(folder / MARKER)


def gather(path: Path, registry: Registry, room: Path) -> list[Item]:
    """Return the submissions of a run folder, a submission file, or a folder that holds several of them.

    Args:
        path: the folder or file.
        registry: where the components of the suites are looked up.
        room: an empty folder in which submissions of runs are made.

    Raises:
        UsageError: if there are none, or a run is not finished.
    """
    sources = _sources(expanded(path))
    if len(sources) > MOST_FILES:
        raise UsageError(f"{printable(path)}: holds {len(sources):,} runs and submissions, at most {MOST_FILES:,} fit")
    items: dict[str, Item] = {}
    for number, source in enumerate(sources):
        file = source
        if source.is_dir():
            (room / f"{number}").mkdir()
            file = submit(source, registry, room / f"{number}")
        item = Item.of(file)
        items[item.run] = item
    return list(items.values())


def _sources(path: Path) -> list[Path]:
    if (path / RESULTS).is_file() or path.is_file():
        return [path]
    try:
        children = sorted(path.iterdir())
    except OSError as error:
        raise UsageError(f"{printable(path)}: cannot be read ({error.strerror}); give a folder") from None
    runs = [child for child in children if (child / RESULTS).is_file()]
    submissions = [child for child in children if child.name.endswith(SUFFIX) and child.is_file()]
    if not runs and not submissions:
        raise UsageError(
            f"{printable(path)}: has no run, no submission (*{SUFFIX}) and no site; give the folder of a run, or a "
            "folder of several"
        )
    return [*runs, *submissions]


def site_content(folder: Path) -> dict[str, bytes]:
    """Return the files of a site by address.

    Raises:
        UsageError: if it holds links, names that no site has, or too much.
    """
    files: dict[str, bytes] = {}
    size = 0
    for path in _files_below(folder):
        name = path.relative_to(folder).as_posix()
        why = not_plain(path)
        if why is not None or not _ADDRESS.fullmatch(name):
            reason = why or "has a name that no file of a site has"
            raise UsageError(f"{printable(path)}: {reason}; make the site again with `pruningbench site`")
        try:
            files[name] = read_plain(path, most=MOST_BYTES - size)
        except OSError as error:
            raise UsageError(f"{printable(path)}: cannot be read ({error.strerror})") from None
        size += len(files[name])
        if len(files) > MOST_SITE_FILES:
            raise UsageError(f"{printable(folder)}: has more than {MOST_SITE_FILES:,} files")
    return files


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the paths of all files and links below a folder, without following links."""
    for place, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        yield from (Path(place) / name for name in folders if (Path(place) / name).is_symlink())
        yield from (Path(place) / name for name in sorted(names))
