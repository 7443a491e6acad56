"""Paths as users write them, files that are written whole or not at all, and files checked to be plain files."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from pathlib import Path

from pruningbench.errors import UsageError

DATA_VARIABLE = "$PRUNINGBENCH_DATA"
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Neither follow a link nor wait for the other end of a pipe if one was put there after the check."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading ``~``, ``~user`` or ``$PRUNINGBENCH_DATA`` expanded.

    The latter is the folder of all data sets, also where the variable is not set. It lets a suite name a file in that
    folder without naming a place on one machine. No other variable is expanded.

    Raises:
        UsageError: if there is no such user.
    """
    text = os.fspath(path)
    if text == DATA_VARIABLE or text.startswith(f"{DATA_VARIABLE}/"):
        return data_folder() / text[len(DATA_VARIABLE) + 1 :]
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text}: {str(error).rstrip('.').lower()}") from None


def data_folder() -> Path:
    """Return the folder of all data sets: ``PRUNINGBENCH_DATA``, or the user's data folder of this platform."""
    setting = os.environ.get(DATA_VARIABLE[1:])
    if setting and not setting.startswith(DATA_VARIABLE):
        return expanded(setting)
    from platformdirs import user_data_path

    return user_data_path("pruningbench", appauthor=False) / "data"


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader, even after a kill at any moment, finds the old or the new content.

    Args:
        path: the file; its folder is created if necessary.
        content: the whole content.
        durable: also wait until it is on the disk, to survive a power cut.

    Raises:
        OSError: as raised by the file system; no partial file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def not_plain(path: Path) -> str | None:
    """Return why a path is not a plain file (a link, a folder, a pipe or a device); None if it is one or is missing.

    In folders from strangers, only plain files are read and written: a link leads to files that are not theirs,
    and a pipe keeps its reader waiting forever.

    Raises:
        OSError: if the file system cannot tell.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(mode):
        return "is a link"
    if stat.S_ISDIR(mode):
        return "is a folder"
    return None if stat.S_ISREG(mode) else "is a pipe, a socket or a device"


def open_plain(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a plain file (see `not_plain`); return its descriptor.

    Args:
        path: the file.
        flags: as for ``os.open``. A file with a second name (a hard link) is not opened for writing.

    Raises:
        OSError: if it is not a plain file, or as raised by the file system; ``strerror`` says why in words.
    """
    why = not_plain(path)
    if why is None:
        handle = os.open(path, flags | _SAFELY, 0o644)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            why = "is not a plain file"
        elif status.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR):
            why = "has a second name (a hard link)"
        else:
            return handle
        os.close(handle)
    raise OSError(errno.EINVAL, f"{why}; only plain files with one name are used here", os.fspath(path))


def read_plain(path: Path, *, most: int = -1) -> bytes:
    """Return the content of a plain file (see `open_plain`) of at most `most` bytes; a negative `most` is no limit.

    Raises:
        OSError: if it is not a plain file, is larger, or cannot be read.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        content = file.read(most + 1 if most >= 0 else -1)
    if 0 <= most < len(content):
        raise OSError(errno.EFBIG, f"is larger than {most} bytes", os.fspath(path))
    return content


def default_cache_folder() -> Path:
    """Return ``$PRUNINGBENCH_CACHE``, or the user's cache folder of this platform."""
    setting = os.environ.get("PRUNINGBENCH_CACHE")
    if setting:
        return expanded(setting)
    from platformdirs import user_cache_path

    return user_cache_path("pruningbench", appauthor=False)


def current_folder() -> Path | None:
    """Return the working folder of the process, or None if it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


def change_folder(folder: Path | None) -> None:
    """Change the working folder of the process; None changes nothing."""
    if folder is not None:
        os.chdir(folder)
