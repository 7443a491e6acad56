"""Archives from the network, unpacked so that they can write nowhere but into their own folder."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from pruningbench.errors import FetchError

Notify = Callable[[int, int | None], None]
"""Is told how many bytes of the unpacked content are written, and of how many (None: not known)."""

LARGEST_RATIO = 200
"""Unpacked bytes per byte of an archive; deflated zeros reach 1,000, photographs 1, annotations in XML 20."""
SMALLEST_BOMB = 2**28
"""Unpacked bytes below which no archive is a bomb."""


def unpack(archive: Path, into: Path, notify: Notify = lambda _done, _total: None) -> None:
    """Unpack a tar (any compression) or zip archive into a folder.

    Raises:
        FetchError: for a damaged archive (it is removed, so that the next fetch gets it anew), or one that
            holds a link or a device, names a place outside the folder, or unpacks to far more than its size.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, into, notify)
        else:
            _unpack_tar(archive, into, notify)
    except tarfile.FilterError as error:
        raise FetchError(f"{archive}: unsafe archive refused ({error})") from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, LZMAError) as error:
        archive.unlink()
        why = str(error).partition("\n")[0].rstrip(":")
        raise FetchError(f"{archive}: damaged archive is removed ({why}); fetch it again") from None


def _unpack_tar(archive: Path, into: Path, notify: Notify) -> None:
    done = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            _check_place(archive, member.name)
            if not (member.isreg() or member.isdir()):
                what = "a link" if member.issym() or member.islnk() else "no regular file"
                raise FetchError(f"{archive}: unsafe archive refused ({member.name!r} is {what})")
            done += member.size
            _check_size(archive, done)
            # "data" takes setuid bits and owners away; it is not trusted to keep links inside (CVE-2025-4517),
            # so that no link gets here
            tar.extract(member, into, filter="data")
            notify(done, None)


def _unpack_zip(archive: Path, into: Path, notify: Notify) -> None:
    done = 0
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        total = sum(member.file_size for member in members)
        _check_size(archive, total)  # zipfile reads no more of a member than it declares
        for member in members:
            _check_place(archive, member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind == stat.S_IFLNK:
                raise FetchError(f"{archive}: unsafe archive refused ({member.filename!r} is a link)")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise FetchError(f"{archive}: unsafe archive refused ({member.filename!r} is no regular file)")
            file.extract(member, into)
            done += member.file_size
            notify(done, total)


def _check_place(archive: Path, name: str) -> None:
    """Refuse a member that would lie outside of the folder, on any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]) or "\0" in name:
        raise FetchError(f"{archive}: unsafe archive refused ({name!r} lies outside of it)")


def _check_size(archive: Path, size: int) -> None:
    """Refuse an archive that unpacks to far more than it could be packed from: a bomb."""
    packed = archive.stat().st_size
    if size > max(LARGEST_RATIO * packed, SMALLEST_BOMB):
        raise FetchError(
            f"{archive}: unsafe archive refused (its {packed:,} bytes unpack to {size:,} or more, "
            f"over {LARGEST_RATIO} times as many)"
        )


def merge(source: Path, target: Path) -> None:
    """Move all that lies in a folder into another on the same disk, and remove the empty folder.

    Files of the same name are replaced.
    """
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and not entry.is_symlink() and place.is_dir():
            merge(entry, place)
        else:
            entry.replace(place)
    source.rmdir()
