"""Downloads that survive interruption: resumed, checked, and moved into place whole.

A file is downloaded as ``.downloads/FOLDER/NAME.part`` next to its destination folder. It gets its name
when it is complete and its checksum is right; an archive is unpacked next to its destination and then
moved there. So everything in a data folder is complete, and an interrupted fetch is resumed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from pruningbench.base import files
from pruningbench.base.files import write_whole
from pruningbench.base.reading import one_line, open_file, read_text
from pruningbench.errors import FetchError
from pruningbench.images.transfer import BLOCK, SlowError, stated_total, transfer, validator

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before each further try if no bytes arrive."""
UNFINISHED = ".pruningbench-unfinished"
"""Marks a folder into which an archive is being moved."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_HASH = re.compile(r"([0-9a-f]{64})\b.*\s*", re.ASCII)
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Progress(Protocol):
    """Receives the progress of a file; `total` is None if the server does not state it."""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Note that `done` of `total` bytes of `what` have arrived."""
        ...


def silent(what: str, done: int, total: int | None) -> None:
    """Note nothing."""
    del what, done, total


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Attributes:
        url: where it is, http or https.
        file: path of the file below the data set's folder; for an archive only its name counts.
        sha256, md5: checksums, or their first digits, as published by the source; empty if none are published.
            In that case the hash of the first download is recorded, and a later download that differs is
            refused.
        unpack: whether the file is an archive (tar, zip) to unpack into the data set's folder.
        into: folder below the data set's folder into which an archive is unpacked.
        strip: folder in the archive whose content is used, without the folder itself.
        size: bytes, if known; a file of another size is refused.
    """

    url: str
    file: str
    sha256: str = ""
    md5: str = ""
    unpack: bool = False
    into: str = ""
    strip: str = ""
    size: int | None = None

    @property
    def checksum(self) -> str:
        """The published checksum in readable form, or ``none published``."""
        if self.sha256:
            return f"sha256 {self.sha256}"
        return f"md5 {self.md5}" if self.md5 else "none published"


data_folder = files.data_folder
"""The folder of all data sets; readers of data need it together with what this module fetches."""


def fetch(downloads: Sequence[Download], folder: Path, progress: Progress = silent) -> None:
    """Download files and archives into a folder.

    Existing files are left unchanged. Interrupted downloads resume where they ended.

    Args:
        downloads: what to fetch.
        folder: the data set's own folder; created if necessary.
        progress: receives the progress of each file.

    Raises:
        FetchError: no network, no such file, a wrong checksum, a damaged archive, no space left. What was
            fetched so far is kept for the next try, unless it is wrong or the disk is full.
    """
    parts = folder.parent / ".downloads" / folder.name
    files = [item for item in downloads if not item.unpack and not (folder / item.file).exists()]
    archives = [item for item in downloads if item.unpack]
    with _named_errors(folder), _only_one(parts):
        fetched = [_obtain(item, parts, progress) for item in (*files, *archives)]
        for item, path in zip(files, fetched, strict=False):
            target = folder / item.file
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        if archives:
            _install(dict(zip(fetched[len(files) :], archives, strict=True)), folder, parts, progress)


def _install(archives: dict[Path, Download], folder: Path, parts: Path, progress: Progress) -> None:
    """Unpack archives next to `folder`, move their content into it, and remove them."""
    from pruningbench.images.archives import merge, unpack

    unpacked = parts / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        for archive, item in archives.items():
            unpack(archive, unpacked / item.into, partial(progress, f"unpacking {archive.name}"))
            if item.strip and (unpacked / item.into / item.strip).is_dir():
                merge(unpacked / item.into / item.strip, unpacked / item.into)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / UNFINISHED).touch()
        merge(unpacked, folder)
        (folder / UNFINISHED).unlink()
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    for archive in archives:
        archive.unlink()


def _obtain(item: Download, parts: Path, progress: Progress) -> Path:
    """Return the complete, checked file in `parts`, downloading what is missing."""
    name = Path(item.file).name
    complete, part = parts / name, parts / f"{name}.part"
    if not complete.exists():
        _download(item, part, progress)
        part.replace(complete)
        validator(part).unlink(missing_ok=True)
    _check(item, complete)
    return complete


def _check(item: Download, path: Path) -> None:
    """Compare a download with its published checksum, or with the hash of the first download.

    Raises:
        FetchError: if it differs; the file is removed.
    """
    sha256, md5 = hash_file(path)
    record = path.with_name(f"{path.name}.sha256")
    if item.sha256 or item.md5:
        expected, actual = (item.sha256, sha256) if item.sha256 else (item.md5, md5)
        remedy = "run the same command again; if this repeats, the source has changed or cannot be trusted"
    elif record.exists():
        expected, actual = _recorded(record), sha256
        remedy = f"the source has changed since the first download; delete {record} to accept the new file"
    else:
        write_whole(record, f"{sha256}  {path.name}\n".encode())
        return
    if not actual.startswith(expected):
        path.unlink()
        raise FetchError(f"{item.url}: wrong checksum of {path.name} (expected {expected}, got {actual}); {remedy}")


def _recorded(record: Path) -> str:
    """Return the hash that was recorded for the first download."""
    noted = _HASH.fullmatch(read_text(record))
    if noted is None:
        raise FetchError(f"{record}: holds no SHA-256; delete it to accept the file as it is now")
    return noted[1]


def hash_file(path: Path) -> tuple[str, str]:
    """Return the SHA-256 and the MD5 of a file as hex digits."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open_file(path) as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            md5.update(block)
    return sha256.hexdigest(), md5.hexdigest()


def _download(item: Download, part: Path, progress: Progress) -> None:
    """Download into `part`, resuming; try again as long as bytes arrive, and a few times if none do."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    failures = 0
    while True:
        before = _size(part)
        try:
            transfer(item.url, part, item.size, partial(progress, part.stem))
            return
        except HTTPError as error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                if stated_total(error.headers) == before:
                    return
                part.unlink()  # longer than the file now is: it belonged to another version
                continue
            failure: Exception = error
            hopeless = error.code not in _BUSY
        except (URLError, TimeoutError, ConnectionError, HTTPException) as error:
            failure, hopeless = error, False
        except ValueError as error:  # an impossible host name
            failure, hopeless = error, True
        helped = _size(part) > before and not isinstance(failure, SlowError)
        failures = 0 if helped else failures + 1
        if hopeless or failures > len(PAUSES):
            raise _failed(item, part, failure) from None
        time.sleep(PAUSES[max(failures - 1, 0)])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _no_space(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def _failed(item: Download, part: Path, error: Exception) -> FetchError:
    """Turn a failed download into one line."""
    from urllib.error import HTTPError

    by_hand = f"or put the file at {part.with_suffix('')} by hand and run the command again"
    if isinstance(error, HTTPError):
        return FetchError(f"{item.url}: the server answers {error.code} {one_line(error.reason)}; try later, {by_hand}")
    reason = one_line(getattr(error, "reason", error))
    progress = f"the {_size(part):,} bytes fetched so far are kept: the same command continues from there"
    return FetchError(f"{item.url}: cannot be fetched ({reason}); check the network ({progress}), {by_hand}")


@contextlib.contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    """Turn file-system errors into one line; if the disk is full, remove partial downloads."""
    parts = folder.parent / ".downloads" / folder.name
    try:
        yield
    except OSError as error:
        if not _no_space(error):
            where = error.filename or folder
            raise FetchError(f"{where}: cannot be written ({error.strerror}); set PRUNINGBENCH_DATA") from None
        for part in parts.glob("*.part*"):
            part.unlink(missing_ok=True)
        raise FetchError(
            f"no space left for {folder}; the partial download was removed: free some space, or set "
            "PRUNINGBENCH_DATA to a folder on a larger disk, and run the command again"
        ) from None


@contextlib.contextmanager
def _only_one(parts: Path) -> Iterator[None]:
    """Keep two processes from writing the same file; the system frees the lock if the process dies."""
    parts.mkdir(parents=True, exist_ok=True)
    with (parts / "lock").open("w") as handle:
        try:
            import fcntl
        except ImportError:  # Windows: downloads there are not protected from each other
            yield
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchError(f"{parts}: another process is fetching this; wait until it is done") from None
        yield
