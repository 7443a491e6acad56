"""Members of zip archives that are compressed by LZMA: the content that zipfile reads, in bounded memory."""

from __future__ import annotations

import io
import lzma
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pruningbench.errors import FetchError
from pruningbench.images import lzmamembers
from pruningbench.images.archives import unpack

CONTENT = b"a line of text, and a line of text\n" * 5000 + bytes(range(256)) * 9


def packed(*contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as file:
        for i, content in enumerate(contents):
            file.writestr(f"folder/{i}", content)
    return buffer.getvalue()


def by_hand(content: bytes, *, end: bool, **settings: int) -> bytes:
    """Return an archive of one member with settings that zipfile never writes; `end`: with the mark at the end."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, **settings}]
    raw = lzma.compress(content, lzma.FORMAT_RAW, filters=filters)  # always with the mark
    if not end:  # FORMAT_ALONE with a known size has none; its header has 13 bytes
        raw = without_mark(content, filters)
    code = settings.get("lc", 3) + 9 * settings.get("lp", 0) + 45 * settings.get("pb", 2)
    data = struct.pack("<2sHBI", b"\x09\x04", 5, code, 1 << 16) + raw
    name, crc = b"folder/0", zlib.crc32(content)
    fields = (2 if end else 0, zipfile.ZIP_LZMA, 0, 33, crc, len(data), len(content), len(name), 0)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 63, *fields) + name + data
    listed = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 63, 63, *fields, 0, 0, 0, 0, 0) + name
    return local + listed + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(listed), len(local), 0)


def without_mark(content: bytes, filters: list[dict[str, int]]) -> bytes:
    """Return the compressed bytes of a content up to where all of it can be read."""
    raw = lzma.compress(content, lzma.FORMAT_RAW, filters=filters)
    for cut in range(len(raw), 0, -1):
        if lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(raw[: cut - 1]) != content:
            return raw[:cut]
    return raw


def unpacked(content: bytes, into: Path) -> list[bytes]:
    into.mkdir(parents=True)
    (into / "a.zip").write_bytes(content)
    unpack(into / "a.zip", into / "out")
    return [path.read_bytes() for path in sorted((into / "out" / "folder").iterdir())]


def refused(content: bytes, into: Path) -> str:
    with pytest.raises(FetchError) as caught:
        unpacked(content, into)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=3), st.integers(1, 100))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_zipfile_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], times: int
) -> None:
    contents = [content * times for content in contents]
    assert unpacked(packed(*contents), tmp_path_factory.mktemp("x") / "a") == contents


@pytest.mark.parametrize("piece", [1, 7, 1 << 18])
def test_pieces_of_any_size_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(lzmamembers, "PIECE", piece)
    assert unpacked(packed(CONTENT[:4000], b"", CONTENT[-9000:]), tmp_path / "a") == [
        CONTENT[:4000],
        b"",
        CONTENT[-9000:],
    ]


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("settings", [{}, {"lc": 0, "lp": 2, "pb": 0}, {"lc": 4, "lp": 0, "pb": 4}])
def test_settings_of_other_writers(tmp_path: Path, settings: dict[str, int], end: bool) -> None:
    """zipfile reads the archives of this test, too."""
    archive = by_hand(CONTENT, end=end, **settings)
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert file.read("folder/0") == CONTENT
    assert unpacked(archive, tmp_path / "a") == [CONTENT]


def test_a_large_dictionary_is_refused_before_it_is_reserved(tmp_path: Path) -> None:
    head = struct.pack("<2sHBI", b"\x09\x04", 5, 3 + 90, 1 << 16)
    for size in (lzmamembers.LARGEST_DICTIONARY + 1, 2**32 - 1):
        archive = by_hand(CONTENT, end=True).replace(head, head[:5] + struct.pack("<I", size))
        assert f"asks for a dictionary of {size:,} bytes" in refused(archive, tmp_path / str(size))
    largest = by_hand(CONTENT, end=True).replace(head, head[:5] + struct.pack("<I", lzmamembers.LARGEST_DICTIONARY))
    assert unpacked(largest, tmp_path / "largest") == [CONTENT]


@pytest.mark.parametrize(("old", "new"), [(93, 225), (93, 255), (93, 8 + 9 * 4)])
def test_settings_that_lzma_does_not_have(tmp_path: Path, old: int, new: int) -> None:
    head = struct.pack("<2sHB", b"\x09\x04", 5, old)
    archive = by_hand(CONTENT, end=True)
    assert head in archive
    assert "strange settings" in refused(archive.replace(head, head[:4] + bytes([new])), tmp_path / "a")


def test_a_member_that_lies_about_its_size_takes_no_memory(tmp_path: Path) -> None:
    """zipfile would decompress 100 MB at once to return 10 bytes."""
    archive = packed(bytes(10**8))
    assert len(archive) < 20_000
    lie = archive.replace(struct.pack("<I", 10**8), struct.pack("<I", 10))
    tracemalloc.start()
    try:
        message = refused(lie, tmp_path / "a")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "unpacks to more bytes than the archive lists" in message
    assert most < (1 << 23) + (1 << 21), "the dictionary that zipfile writes, and some pieces"


def test_checksums_and_sizes(tmp_path: Path) -> None:
    archive = packed(CONTENT)
    crc, size = zlib.crc32(CONTENT), len(CONTENT)
    for i, (old, new) in enumerate([(crc, crc ^ 1), (size, size + 1)]):
        changed = archive.replace(struct.pack("<I", old), struct.pack("<I", new))
        assert "is cut off, or has another checksum" in refused(changed, tmp_path / str(i))


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_noticed_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    archive = bytearray(packed(CONTENT[-5000:]))
    archive[data.draw(st.integers(0, len(archive) - 1))] ^= data.draw(st.integers(1, 255))
    into = tmp_path_factory.mktemp("x") / "a"
    try:
        contents = unpacked(bytes(archive), into)
    except (FetchError, FileNotFoundError):  # another name
        return
    assert contents in ([CONTENT[-5000:]], [])
