"""Archives from the network, unpacked so that they can write only into their own folder."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pruningbench.base.reading import one_line, open_file
from pruningbench.errors import FetchError, PruningBenchError
from pruningbench.images import lzmamembers

Notify = Callable[[int, int | None], None]
"""Receives how many bytes of the unpacked content are written, and the total (None: unknown)."""

LARGEST_RATIO = 200
"""Maximum unpacked bytes per byte of an archive; deflated zeros reach 1,000, photographs 1, XML annotations 20."""
SMALLEST_BOMB = 2**28
"""An archive that unpacks to fewer bytes than this is never a bomb."""
MOST_MEMBERS = 2_000_000
"""Maximum number of files and folders in an archive; ImageNet-1k has 1.4 million images."""
DEEPEST = 32
"""Maximum number of folders above a file in an archive."""
_NAMES = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ, errno.EINVAL)
"""File-system errors for names that are not possible, or not possible next to each other."""


def unpack(archive: Path, into: Path, notify: Notify = lambda _done, _total: None) -> None:
    """Unpack a tar (plain or compressed by gzip, bzip2 or xz) or zip archive into a folder.

    Raises:
        FetchError: for a damaged archive (it is removed, so that the next fetch downloads it again), or one that
            contains a link or a device, names a place outside the folder or the same place twice, or unpacks to
            far more than its size.
    """
    into.mkdir(parents=True, exist_ok=True)
    with open_file(archive) as file:
        is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    with _one_line(archive, into):
        (_unpack_zip if is_zip else _unpack_tar)(archive, into, notify)


@contextmanager
def _one_line(archive: Path, into: Path) -> Iterator[None]:
    """Turn any error that an archive makes its reader raise into one line; disk errors pass unchanged."""
    try:
        yield
    except PruningBenchError:
        raise
    except tarfile.FilterError as error:
        raise FetchError(f"{archive}: unsafe archive refused ({error})") from None
    except OSError as error:
        if error.errno is None:  # not a disk error: gzip, bzip2
            raise _damaged(archive, error) from None
        if error.errno not in _NAMES:
            raise
        where = os.path.relpath(error.filename, into) if error.filename else "a name"
        raise FetchError(f"{archive}: unsafe archive refused ({where!r}: {error.strerror})") from None
    except Exception as error:  # readers of archives raise nearly anything for a damaged one
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> FetchError:
    archive.unlink()
    why = one_line(str(error).partition("\n")[0].rstrip(":")) or type(error).__name__
    return FetchError(f"{archive}: damaged archive was removed ({why}); fetch it again")


def _unpack_tar(archive: Path, into: Path, notify: Notify) -> None:
    from pruningbench.images import tarfiles

    places = _Places(archive, into)
    done = 0
    with tarfiles.members(archive) as (tar, members):
        for member in members:
            places.add(member.name, folder=member.isdir())
            if not (member.isreg() or member.isdir()) or member.issparse():
                kind = "a link" if member.issym() or member.islnk() else "not a regular file"
                raise FetchError(f"{archive}: unsafe archive refused ({member.name!r} is {kind})")
            done += member.size
            _check_size(archive, done)
            # "data" removes setuid bits and owners; it is not trusted to keep links inside (CVE-2025-4517),
            # so no link gets this far
            tar.extract(member, into, filter="data")
            notify(done, None)


def _unpack_zip(archive: Path, into: Path, notify: Notify) -> None:
    places = _Places(archive, into)
    done = 0
    with open_file(archive) as stream, zipfile.ZipFile(stream) as file:
        members = file.infolist()
        total = sum(member.file_size for member in members)
        _check_size(archive, total)  # zipfile reads no more of a member than it declares
        for member in members:
            places.add(member.orig_filename, folder=member.is_dir())
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind == stat.S_IFLNK:
                raise FetchError(f"{archive}: unsafe archive refused ({member.filename!r} is a link)")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise FetchError(f"{archive}: unsafe archive refused ({member.filename!r} is not a regular file)")
            if member.compress_type == zipfile.ZIP_LZMA and not member.is_dir() and not member.flag_bits & 1:
                target = into / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                lzmamembers.extract(stream, member, target)
            else:
                file.extract(member, into)
            done += member.file_size
            notify(done, total)


class _Places:
    """The places that members take, each inside the folder and used only once."""

    def __init__(self, archive: Path, into: Path) -> None:
        self._archive, self._into = archive, into
        self._unpacked_names: set[str] = set()
        self._count = 0

    def add(self, name: str, *, folder: bool) -> None:
        """Record the place of a member.

        Raises:
            FetchError: for a place outside the folder on any system, a name that is not UTF-8 or contains a NUL, a
                name that another file has (on this disk: some disks treat ``A`` and ``a`` as one name), or too
                many members.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        self._count += 1
        if self._count > MOST_MEMBERS:
            raise self._refused(f"it holds more than {MOST_MEMBERS:,} members")
        if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
            raise self._refused(f"{name!r} lies outside its folder")
        if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise self._refused(f"the name {name!r} holds a NUL or is not UTF-8")
        if len(path.parts) > DEEPEST:
            raise self._refused(f"{name[:80]!r}... is nested in more than {DEEPEST} folders")
        if folder:
            return
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key in self._unpacked_names and os.path.lexists(self._into / path):
            raise self._refused(f"it holds {name!r} twice, or in two spellings that this disk does not distinguish")
        self._unpacked_names.add(key)

    def _refused(self, why: str) -> FetchError:
        return FetchError(f"{self._archive}: unsafe archive refused ({why})")


def _check_size(archive: Path, size: int) -> None:
    """Refuse an archive that unpacks to far more than its size can explain: a bomb."""
    packed = archive.stat().st_size
    if size > max(LARGEST_RATIO * packed, SMALLEST_BOMB):
        raise FetchError(
            f"{archive}: unsafe archive refused (its {packed:,} bytes unpack to {size:,} or more, "
            f"over {LARGEST_RATIO} times as many)"
        )


def merge(source: Path, target: Path) -> None:
    """Move the content of a folder into another folder on the same disk, and remove the empty folder.

    Files of the same name are replaced.
    """
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and not entry.is_symlink() and place.is_dir():
            merge(entry, place)
        else:
            entry.replace(place)
    source.rmdir()
