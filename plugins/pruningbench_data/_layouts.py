"""The standard layout of labelled images: one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pruningbench.contract import DataError, printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
"""Suffixes of image files, in lower case."""


def class_folders(root: Path) -> list[str]:
    """Return the names of the class folders under `root`, sorted.

    Raises:
        DataError: if there are none.
    """
    with _entries(root) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__")))
    readable_names = [readable(root, name) for name in folders]
    if not readable_names:
        loose = any(path.suffix.lower() in SUFFIXES for path in root.iterdir())
        problem = "holds images, but they must lie in one folder per class" if loose else "holds no class folders"
        raise DataError(f"{root}: {problem} (layout: {root.name}/CLASS/IMAGE)")
    return readable_names


def labelled_files(
    root: Path, classes: Sequence[str], only: Sequence[str] | None = None
) -> tuple[list[str], list[int]]:
    """Return the images in class folders, at any depth, and the position of each one's class in `classes`.

    Args:
        root: the folder that contains the class folders.
        classes: names of the class folders.
        only: the classes to read; all by default.

    Returns:
        Paths below `root` with ``/``, ordered by class and then by name, and their labels.

    Raises:
        DataError: for a class without images.
    """
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if only is not None and name not in only:
            continue
        images = sorted(_images(root / name, name, ()))
        if not images:
            raise DataError(
                f"{root / name}: the class folder holds no image ({' '.join(SUFFIXES)}); fill it or remove it"
            )
        files += images
        labels += [label] * len(images)
    return files, labels


def readable(folder: Path, name: str) -> str:
    """Return the name of a file or folder in `folder`, for use in keys and fingerprints.

    Raises:
        DataError: if it is not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{printable(folder / name)}: the name is not UTF-8; rename it") from None
    return name


def inside(root: Path, name: str, where: str) -> Path:
    """Return the file below `root` that a table names.

    Raises:
        DataError: naming `where`, if the name leads outside the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise DataError(f"{where}: {name!r} is not a path below {root}")
    return root / name


@contextmanager
def _entries(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """Yield the entries of a folder; raise a one-line DataError if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            yield entries
    except OSError as error:
        raise DataError(f"{printable(folder)}: the folder cannot be read ({error.strerror})") from None


def _images(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> list[str]:
    """Return the images in a folder and below; `above` holds device and inode of each enclosing folder."""
    images = []
    with _entries(folder) as entries:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            raise DataError(f"{folder}: is a link to a folder that contains it; remove the link")
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                images += _images(folder / entry.name, f"{prefix}/{readable(folder, entry.name)}", (*above, identity))
            elif entry.name.lower().endswith(SUFFIXES):
                images.append(f"{prefix}/{readable(folder, entry.name)}")
    return images
