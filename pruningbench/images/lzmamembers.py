"""Members of a zip archive that are compressed by LZMA, unpacked in bounded memory.

Python's zipfile reads them, too, but takes the size of the dictionary from the archive, up to 4 GiB, and decompresses
each piece that it reads as a whole: 64 KiB can become hundreds of megabytes at once.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

LARGEST_DICTIONARY = 1 << 24
"""Largest dictionary that is read, in bytes; that of zipfile has half the size."""
PIECE = 1 << 18
"""Bytes that are read, or decompressed, at a time."""
_LOCAL = struct.Struct("<4s5H3I2H")
"""The header before a member's content: last come the lengths of its name and of its extra field."""
_PROPERTIES = struct.Struct("<2sHBI")
"""What comes before the compressed bytes: version, length of the rest, lc + 9 lp + 45 pb, size of the dictionary."""


def extract(stream: BinaryIO, member: zipfile.ZipInfo, target: Path) -> None:
    """Write the content of a member that is compressed by LZMA to a file.

    Args:
        stream: the archive.
        member: the member, as zipfile lists it.
        target: the file; its folder exists.

    Raises:
        zipfile.BadZipFile: if the content is damaged, has another size or checksum than the archive lists, or asks
            for a dictionary above `LARGEST_DICTIONARY`.
    """
    decompressor, left = _begin(stream, member)
    size, checksum, fresh = 0, 0, b""
    with target.open("wb") as file:
        while not decompressor.eof:
            if decompressor.needs_input:
                fresh = stream.read(min(left, PIECE))
                left -= len(fresh)
                if not fresh:
                    break  # without the mark at the end, which writers may leave out
            content = _decompress(decompressor, fresh)
            fresh = b""
            size, checksum = size + len(content), zlib.crc32(content, checksum)
            if size > member.file_size:
                raise zipfile.BadZipFile(f"{member.filename} unpacks to more bytes than the archive lists")
            file.write(content)
    if size != member.file_size or checksum != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename} is cut off, or has another checksum than the archive lists")


def _begin(stream: BinaryIO, member: zipfile.ZipInfo) -> tuple[lzma.LZMADecompressor, int]:
    """Return the decompressor of a member whose compressed bytes the stream reads next, and their number."""
    stream.seek(member.header_offset)
    header = stream.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise zipfile.BadZipFile(f"{member.filename} is not where the archive lists it")
    *_, name, extra = _LOCAL.unpack(header)
    stream.seek(name + extra, 1)
    head = stream.read(_PROPERTIES.size)
    if len(head) < _PROPERTIES.size or member.compress_size < _PROPERTIES.size:
        raise zipfile.BadZipFile(f"{member.filename} is cut off")
    _, length, code, dictionary = _PROPERTIES.unpack(head)
    if length != 5:
        raise zipfile.BadZipFile(f"{member.filename} is not compressed by LZMA as the archive says")
    if dictionary > LARGEST_DICTIONARY:
        wrong = f"asks for a dictionary of {dictionary:,} bytes, at most {LARGEST_DICTIONARY:,} are reserved"
        raise zipfile.BadZipFile(f"{member.filename} {wrong}")
    settings = {"lc": code % 9, "lp": code // 9 % 5, "pb": code // 45, "dict_size": dictionary}
    try:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, **settings}])
    except (lzma.LZMAError, ValueError):
        raise zipfile.BadZipFile(f"{member.filename} asks for strange settings of LZMA") from None
    return decompressor, member.compress_size - _PROPERTIES.size


def _decompress(decompressor: lzma.LZMADecompressor, content: bytes) -> bytes:
    try:
        return decompressor.decompress(content, max_length=PIECE)
    except lzma.LZMAError as error:
        raise zipfile.BadZipFile(f"it does not decompress ({error})") from None
