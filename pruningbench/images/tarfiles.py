"""Tar archives read within limits: what Python's reader would trust is checked first.

Python reads headers of any stated length into memory (a compressed header of zeros fills it), loops forever on a
negative size (CVE-2025-8194), and treats a damaged header as the end of the archive.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pruningbench.base.reading import open_file

LARGEST_HEADER = 2**20
"""Maximum bytes per read, 1 MiB: contents are copied in smaller blocks, and headers are names and times."""
MOST_PADDING = 64
"""Maximum blocks of `LARGEST_HEADER` bytes after the end of a compressed archive; tar pads to 10 kB."""
_OPENERS: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))


class _Bounded(io.RawIOBase):
    """A stream that returns at most `LARGEST_HEADER` bytes per read and keeps the last bytes in `last`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        block: bytes = self._stream.read(size)
        self.last = block
        return block

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        reached: int = self._stream.seek(place, whence)
        return reached

    def tell(self) -> int:
        place: int = self._stream.tell()
        return place


class _Member(tarfile.TarInfo):
    """A member whose size cannot be negative."""

    def _block(self, count: int) -> int:
        if count < 0:
            raise tarfile.ReadError(f"a member of {count:,} bytes")
        return -(-count // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


@contextmanager
def members(archive: Path) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    """Open a tar archive, plain or compressed by gzip, bzip2 or xz, and yield it with its members one by one.

    Raises:
        tarfile.TarError, OSError and others: for a damaged archive, even if only a header is damaged, or one
            without its end marker.
    """
    with open_file(archive) as file:
        start = file.read(6)
        file.seek(0)
        opener = next((opener for magic, opener in _OPENERS if start.startswith(magic)), None)
        stream = file if opener is None else opener(file, "rb")
        bounded = _Bounded(stream)
        with stream, tarfile.open(fileobj=bounded, mode="r:", tarinfo=_Member) as tar:
            yield tar, _to_the_end(tar, bounded)


def _to_the_end(tar: tarfile.TarFile, stream: _Bounded) -> Iterator[tarfile.TarInfo]:
    reader: Any = tar
    while (member := tar.next()) is not None:
        yield member
        reader.members.clear()  # otherwise all of them would be kept
    if len(stream.last) < tarfile.BLOCKSIZE or stream.last.strip(b"\0"):  # a block of zeros is the end marker
        raise tarfile.ReadError(f"its header at byte {tar.offset:,} is damaged or missing")
    for _ in range(MOST_PADDING):  # a compressed stream has its checksum at its end
        if not stream.read(LARGEST_HEADER):
            return
    raise tarfile.ReadError(f"more than {MOST_PADDING} MiB follow its end")
