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


def unpack(archive: Path, into: Path, notify: Notify = lambda _done, _total: None) -> None:
    """Unpack a tar (any compression) or zip archive into a folder.

    Raises:
        FetchError: for a damaged archive (it is removed, so that the next fetch gets it anew), or one
            that names a place outside the folder, a device or a link that leads out.
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
    if not hasattr(tarfile, "data_filter"):
        raise FetchError(f"{archive}: Python 3.11.4 or newer is needed to unpack archives safely")
    done = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            tar.extract(member, into, filter="data")
            done += member.size
            notify(done, None)


def _unpack_zip(archive: Path, into: Path, notify: Notify) -> None:
    done = 0
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        total = sum(member.file_size for member in members)
        for member in members:
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                raise FetchError(f"{archive}: unsafe archive refused ({member.filename!r} lies outside of it)")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise FetchError(f"{archive}: unsafe archive refused ({member.filename!r} is a link)")
            file.extract(member, into)
            done += member.file_size
            notify(done, total)


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
