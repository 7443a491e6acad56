"""Archives of strangers: names, sizes and headers that no honest archive has, and archives damaged in the middle."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.archives import plain_tar, plain_zip
from kit.hostilefiles import SPECIAL, peak_memory

from pruningbench.errors import FetchError, PruningBenchError
from pruningbench.images import archives
from pruningbench.images.archives import unpack

PHOTOS = {"a.jpg": b"first" * 300, "b.jpg": b"second" * 300, "c.jpg": b"third" * 300}


def unpacked(folder: Path, content: bytes) -> dict[str, bytes]:
    archive = folder / "archive"
    archive.write_bytes(content)
    unpack(archive, folder / "out")
    return {
        p.relative_to(folder / "out").as_posix(): p.read_bytes() for p in (folder / "out").rglob("*") if p.is_file()
    }


def one_line(folder: Path, content: bytes) -> str:
    with pytest.raises(FetchError) as caught:
        unpacked(folder, content)
    text = str(caught.value)
    assert text.startswith(str(folder / "archive"))
    assert "\n" not in text
    assert text.isprintable()
    return text


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tars_of_every_compression_are_unpacked(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    assert unpacked(tmp_path, pack(plain_tar(PHOTOS))) == PHOTOS


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = plain_zip([("inner", b"x")])
    assert unpacked(tmp_path, plain_tar({"a.zip": inner})) == {"a.zip": inner}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (plain_tar({"a\udcff.jpg": b"x"}), "is not UTF-8"),
        (plain_tar([("a", b"1"), ("./a", b"2")]), "holds './a' twice"),
        (plain_zip([("a", b"1"), ("a", b"2")]), "holds 'a' twice"),
        (plain_tar([("a", b"1"), ("a/b", b"2")]), "File exists|Not a directory"),
        (plain_tar([("a/b", b"1"), ("a", b"2")]), "Is a directory"),
        (plain_tar({"d/" * 40 + "a": b""}), "is nested in more than 32 folders"),
        (plain_zip([("d/" * 1100 + "a", b"")]), "is nested in more than 32 folders"),
        (plain_zip([("n" * 300, b"")]), "name too long"),
        (plain_zip([("a.jpg", b"x")]).replace(b"a.jpg", b"a\0jpg"), "holds a NUL"),
    ],
    ids=["utf-8", "tar-twice", "zip-twice", "file-folder", "folder-file", "deep", "deep-zip", "long", "nul"],
)
def test_names_that_no_folder_can_have_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    assert re.search(words, one_line(tmp_path, content))


def test_two_spellings_are_two_files_where_the_disk_keeps_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = plain_tar([("A.jpg", b"1"), ("a.jpg", b"2")])
    assert unpacked(tmp_path, content) == {"A.jpg": b"1", "a.jpg": b"2"}
    (tmp_path / "mac").mkdir()
    monkeypatch.setattr(archives.os.path, "lexists", lambda _path: True)  # a disk that takes both for one
    assert "two spellings" in one_line(tmp_path / "mac", content)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_MEMBERS", 5)
    for pack in (plain_tar, plain_zip):
        assert "more than 5 members" in one_line(tmp_path, pack([(f"{i}", b"") for i in range(6)]))


def headers(content: bytes) -> list[int]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [member.offset for member in tar]


def with_size(content: bytes, place: int, size: bytes) -> bytes:
    """Return a tar with another size in the header at `place`, and the header's checksum made right."""
    header = bytearray(content[place : place + 512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:place] + bytes(header) + content[place + 512 :]


def test_a_tar_that_is_damaged_in_the_middle_does_not_pass_for_a_short_one(tmp_path: Path) -> None:
    content = plain_tar(PHOTOS)
    second = headers(content)[1]
    torn = content[: second + 10] + b"\xaa" * 20 + content[second + 30 :]
    assert "damaged archive was removed" in one_line(tmp_path, torn)
    for end in (second, second + 100):  # cut between two members, and in a header
        assert "damaged archive was removed" in one_line(tmp_path, content[:end])


@pytest.mark.timeout(20)
def test_a_negative_size_does_not_send_the_reader_round_for_ever(tmp_path: Path) -> None:
    """CVE-2025-8194."""
    content = plain_tar(PHOTOS)
    back = -(512 + 2048)
    size = b"\xff" + struct.pack(">q", back).rjust(11, b"\xff")
    assert "a member of -" in one_line(tmp_path, with_size(content, headers(content)[1], size))


def test_a_header_of_zeros_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A compressed extended header of 1.5 GB, which Python's reader takes into memory at once."""
    size = 1_500_000_000
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, size
    archive = tmp_path / "a.tgz"
    with gzip.open(archive, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(size // 10**7):
            file.write(bytes(10**7))
    told, peak = peak_memory(
        "from pathlib import Path\nfrom pruningbench.images.archives import unpack\n"
        "try: unpack(Path(args[0]), Path(args[1]))\nexcept Exception as error: print(type(error).__name__, error)",
        archive, tmp_path / "out",
    )  # fmt: skip
    assert told.startswith("FetchError") and "a header of 1,500,000,256 bytes" in told
    assert peak < 200


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(plain_tar(PHOTOS))[:-9] + b"x" * 9,  # a wrong CRC is an OSError of gzip
        bz2.compress(plain_tar(PHOTOS))[:100] + b"x" * 200,  # so is what bzip2 says
        lzma.compress(plain_tar(PHOTOS))[:-20],
        plain_zip([("a", b"x" * 90)], zipfile.ZIP_DEFLATED)[:-22],
        plain_zip([("a", b"x" * 90)]).replace(b"\x14\0\0\0\0\0", b"\x14\0\1\0\0\0"),  # encrypted
        plain_zip([("a", b"x" * 90)]).replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"),  # an unknown compression
        plain_zip([("\xe4", b"x" * 90)]).replace(b"\xc3\xa4", b"\xc3\xc3"),  # said to be UTF-8
    ],
    ids=["gzip", "bzip2", "xz", "zip", "encrypted", "compression", "utf-8"],
)
def test_what_readers_say_of_damaged_archives_is_one_line(tmp_path: Path, content: bytes) -> None:
    assert "damaged archive was removed" in one_line(tmp_path, content)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.timeout(20)
def test_what_is_no_file_is_no_archive(tmp_path: Path, kind: str) -> None:
    make, words = SPECIAL[kind]
    make(tmp_path / "a.tar")
    with pytest.raises(PruningBenchError, match=words):
        unpack(tmp_path / "a.tar", tmp_path / "out")
