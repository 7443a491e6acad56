"""Images brought to a network's size once and kept on disk, so that later reads only copy bytes.

Under ``images/`` in the cache folder there are two files per data set and size: rows of bytes of equal
length, and an index with a checksum of each row. A row is written when its sample is first read, so a
run that reads few images stores few. A row torn by a crash fails its checksum and is written again;
several processes may fill one cache, because all write the same bytes. All such files together hold at
most ``PRUNINGBENCH_IMAGE_CACHE`` GiB (20 by default, 0 switches the cache off); the least recently used
are removed first.
"""

from __future__ import annotations

import shutil
import sys
import threading
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.limits import size_limit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LARGEST_SIDE = 0xFFFF


def budget() -> int:
    """Return how many bytes all resized images may take.

    Raises:
        UsageError: if PRUNINGBENCH_IMAGE_CACHE is not a number >= 0.
    """
    return size_limit("PRUNINGBENCH_IMAGE_CACHE")


@dataclass(frozen=True)
class Row:
    """A stored sample: (layers, size, size) bytes, and the original height and width of the image, in pixels."""

    layers: NDArray[np.uint8]
    height: int
    width: int


class Rows:
    """N rows of (layers, size, size) bytes in a file, with an index of 64-bit entries.

    An entry is 0 for a missing row, otherwise its CRC-32, height and width. Rows are read through a memory
    map and written through a file handle, so that a full disk is an error and not a crash.
    """

    def __init__(self, path: Path, count: int, layers: int, size: int) -> None:
        import numpy as np

        self._shape = (layers, size, size)
        self._length = layers * size * size
        self._lock, self._writable = threading.Lock(), True
        self._checked: set[int] = set()
        rows, index = path.with_suffix(".rows"), path.with_suffix(".index")
        for file, length in ((rows, count * self._length), (index, count * 8)):
            with file.open("ab") as handle:
                handle.truncate(length)
        self._file, self._index_file = rows.open("r+b", buffering=0), index.open("r+b", buffering=0)
        self._rows: Any = np.memmap(rows, np.uint8, "r", shape=(count, *self._shape))
        self._index: Any = np.memmap(index, np.uint64, "r", shape=(count,))

    @classmethod
    def open(cls, path: Path, count: int, layers: int, size: int) -> Rows | None:
        """Open or create the files, making room if necessary; return None without room or a writable folder."""
        needed, allowed = count * layers * size * size, budget()
        if needed > allowed:
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_room(path, needed, allowed)
            if shutil.disk_usage(path.parent).free + _bytes_used(path.with_suffix(".rows")) < needed:
                return None
            return cls(path, count, layers, size)
        except OSError as error:
            _warn(path.parent, error)
            return None

    def read(self, index: int) -> Row | None:
        """Return a row, or None if it is missing or damaged. Each row is checked once per process."""
        import numpy as np

        entry = int(self._index[index])
        if entry == 0:
            return None
        layers = np.array(self._rows[index])
        if index not in self._checked:
            if zlib.crc32(layers.tobytes()) != entry >> 32:
                return None
            self._checked.add(index)
        return Row(layers, entry >> 16 & _LARGEST_SIDE, entry & _LARGEST_SIDE)

    def write(self, index: int, layers: NDArray[np.uint8], height: int, width: int) -> None:
        """Store a row; a full or missing disk disables the cache but does not affect the result."""
        if not self._writable or layers.shape != self._shape or max(height, width) > _LARGEST_SIDE:
            return
        content = layers.tobytes()
        entry = zlib.crc32(content) << 32 | height << 16 | width
        try:
            with self._lock:
                _write_at(self._file, index * self._length, content)
                _write_at(self._index_file, index * 8, entry.to_bytes(8, sys.byteorder))
        except OSError as error:
            self._writable = False
            _warn(Path(self._file.name).parent, error)


def _write_at(file: Any, place: int, content: bytes) -> None:
    file.seek(place)
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _make_room(path: Path, needed: int, allowed: int) -> None:
    """Remove the least recently used caches until one of `needed` bytes fits; mark this one as used."""
    index = path.with_suffix(".index")
    index.touch()
    others = sorted((p for p in path.parent.glob("*.index") if p != index), key=lambda p: (p.stat().st_mtime, p.name))
    total = sum(_bytes_used(p.with_suffix(".rows")) for p in others)
    for other in others:
        if total + needed <= allowed:
            return
        total -= _bytes_used(other.with_suffix(".rows"))
        other.with_suffix(".rows").unlink(missing_ok=True)
        other.unlink(missing_ok=True)


def _bytes_used(path: Path) -> int:
    """Return the bytes that a file takes on disk; holes take none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0
    return stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size


def _warn(folder: Path, error: OSError) -> None:
    warnings.warn(
        f"cache {folder} cannot be written ({error.strerror}); images are decoded each time they are read "
        "(free some space, or set PRUNINGBENCH_CACHE to another folder)",
        stacklevel=4,
    )
