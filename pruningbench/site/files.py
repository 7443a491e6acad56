"""The files of a site, and how a folder of them is written: all of them or none."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pruningbench.base.files import expanded, not_plain
from pruningbench.errors import UsageError

MARKER = "site.json"
"""The file by which a folder is known as a site that this project wrote and may replace."""
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9-]*/){0,2}[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True)
class File:
    """A file of the site.

    Attributes:
        address: path relative to the site's folder, with "/": letters, digits and ``._-``.
        content: its bytes.
    """

    address: str
    content: bytes


def check_replaceable(out: str | os.PathLike[str]) -> Path:
    """Return the folder in which a site may be written: it is missing, empty, or holds a site of this project.

    Raises:
        UsageError: if it holds anything else.
    """
    folder = expanded(out)
    if not os.path.lexists(folder):
        return folder
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder; choose another --out")
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror}); choose another --out") from None
    ours = MARKER in names and not_plain(folder / MARKER) is None
    if names and not ours:
        raise UsageError(f"{folder}: holds other files and is not a site; choose another --out")
    return folder


def write_folder(folder: Path, files: Iterable[File]) -> tuple[int, int]:
    """Write a folder that holds exactly these files, in the place of the folder that is there.

    The files are written to a new folder beside it first, so that a failure leaves what was there.

    Args:
        folder: checked by `check_replaceable`.
        files: no two with the same address, also where file names ignore case.

    Returns:
        How many files and how many bytes.

    Raises:
        UsageError: if the folder cannot be written.
        ValueError: for an address that is unsafe or repeated.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve would follow links
    mark = uuid.uuid4().hex[:12]
    new, old = (folder.with_name(f".{folder.name}.{mark}.{word}") for word in ("new", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        counts = _write_all(new, files)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise UsageError(f"{folder}: the site cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
    return counts


def _write_all(folder: Path, files: Iterable[File]) -> tuple[int, int]:
    seen: set[str] = set()
    size = 0
    for file in files:
        if not _ADDRESS.match(file.address) or ".." in file.address:
            raise ValueError(f"address {file.address!r} is not safe in a site")
        if file.address.lower() in seen:
            raise ValueError(f"two files of the site have the address {file.address!r}")
        seen.add(file.address.lower())
        path = folder / file.address
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        size += len(file.content)
    return len(seen), size
