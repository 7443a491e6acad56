"""Archives: unpacked into place, refused when they reach out, removed when damaged."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.fileserver import FileServer, left_over

from pruningbench.errors import FetchError
from pruningbench.images import archives
from pruningbench.images.archives import merge, unpack
from pruningbench.images.fetch import UNFINISHED, Download, fetch


def tar(files: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda _info: None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: dict[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("a.tgz", tar), ("a.zip", zipped)])
def test_archives_are_unpacked_into_place_and_removed(
    server: FileServer, folder: Path, name: str, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    files = {"top/one/1.txt": b"1", "top/two.txt": b"2"}
    server.files[name] = pack(files)
    fetch(
        [Download(server.url(name), name, unpack=True, into="deep", md5=hashlib.md5(server.files[name]).hexdigest())],
        folder,
    )
    assert {p.relative_to(folder / "deep").as_posix(): p.read_bytes() for p in folder.rglob("*.txt")} == files
    assert left_over(folder) == set()
    assert not (folder / UNFINISHED).exists()


def test_two_archives_meet_in_one_folder_with_what_is_there(server: FileServer, folder: Path) -> None:
    server.files |= {"a.tgz": tar({"kit/a": b"a", "kit/both": b"new"}), "b.zip": zipped({"kit/in/b": b"b"})}
    (folder / "kit").mkdir(parents=True)
    (folder / "kit/mine").write_bytes(b"mine")
    (folder / "kit/both").write_bytes(b"old")
    fetch([Download(server.url(name), name, unpack=True) for name in ("a.tgz", "b.zip")], folder)
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == {"kit/a": b"a", "kit/both": b"new", "kit/in/b": b"b", "kit/mine": b"mine"}


def test_an_interrupted_move_is_marked_and_finished_later(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a.tgz"] = tar({"a": b"a", "b": b"b"})

    def interrupted(source: Path, target: Path) -> None:
        (source / "a").replace(target / "a")
        raise KeyboardInterrupt

    item = Download(server.url("a.tgz"), "a.tgz", unpack=True)
    with monkeypatch.context() as patch:
        patch.setattr("pruningbench.images.archives.merge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch([item], folder)
    assert (folder / UNFINISHED).exists()
    fetch([item], folder)
    assert not (folder / UNFINISHED).exists()
    assert (folder / "b").read_bytes() == b"b"
    assert len(server.asked) == 1


def test_the_top_folder_of_an_archive_can_be_stripped(server: FileServer, folder: Path) -> None:
    server.files["a.zip"] = zipped({"nights/data.csv": b"1", "nights/ref/a": b"2"})
    fetch([Download(server.url("a.zip"), "a.zip", unpack=True, strip="nights")], folder)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == ["data.csv", "ref", "ref/a"]


def link(target: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = tarfile.SYMTYPE, target, 0

    return change


@pytest.mark.parametrize(
    "content",
    [
        tar({"../escaped": b"x"}),
        tar({"a/../../escaped": b"x"}),
        tar({"link": b""}, link("/etc/passwd")),
        tar({"link": b""}, link("../../escaped")),
        tar({"link": b""}, link("inside")),
        tar({"link": b""}, lambda info: (setattr(info, "type", tarfile.LNKTYPE), setattr(info, "linkname", "inside"))),
        tar({"C:\\escaped": b"x"}),
        tar({"pipe": b""}, lambda info: setattr(info, "type", tarfile.FIFOTYPE)),
        zipped({"../escaped": b"x"}),
        zipped({"/escaped": b"x"}),
        zipped({"a/..\\..\\escaped": b"x"}),
        zipped({"link": b"/etc/passwd"}, stat.S_IFLNK | 0o777),
    ],
    ids=[
        "up",
        "down-up",
        "link-root",
        "link-up",
        "link-inside",
        "hard-link",
        "drive",
        "pipe",
        "zip-up",
        "zip-root",
        "zip-backslash",
        "zip-link",
    ],
)
def test_archives_that_reach_out_are_refused(content: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "in" / "archive"
    archive.parent.mkdir()
    archive.write_bytes(content)
    with pytest.raises(FetchError, match="unsafe archive refused"):
        unpack(archive, tmp_path / "in" / "out")
    assert not list(tmp_path.rglob("escaped"))
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_chain_of_links_longer_than_a_path_may_be_reaches_nothing_outside(tmp_path: Path) -> None:
    """CVE-2025-4517: where realpath gives up, the filter "data" let links lead out of the folder."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        inside = ""
        for step in range(16):
            info = tarfile.TarInfo(f"{inside}{'d' * 247}")
            info.type = tarfile.DIRTYPE
            packed.addfile(info)
            info = tarfile.TarInfo(f"{inside}{step:x}")
            info.type, info.linkname = tarfile.SYMTYPE, "d" * 247
            packed.addfile(info)
            inside += f"{step:x}/"
        info = tarfile.TarInfo(f"{inside}{'l' * 254}")
        info.type, info.linkname = tarfile.SYMTYPE, "../" * 16
        packed.addfile(info)
        info = tarfile.TarInfo("escape")
        info.type, info.linkname = tarfile.SYMTYPE, f"{inside}{'l' * 254}/../../outside"
        packed.addfile(info)
        info = tarfile.TarInfo("escape")
        info.size = 5
        packed.addfile(info, io.BytesIO(b"taken"))
    archive = tmp_path / "in" / "a.tar"
    archive.parent.mkdir()
    archive.write_bytes(buffer.getvalue())
    with pytest.raises(FetchError, match="unsafe archive refused .* is a link"):
        unpack(archive, tmp_path / "in" / "out")
    assert outside.read_bytes() == b"mine"


def deflated(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [tar, deflated])
def test_bombs_are_refused_before_they_fill_the_disk(
    pack: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SMALLEST_BOMB", 2**16)
    archive = tmp_path / "a"
    archive.write_bytes(pack({"zeros": bytes(2**22)}))
    with pytest.raises(FetchError, match=r"unsafe archive refused \(its .* bytes unpack to 4,194,304"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", [b"no archive at all", tar({"a": os.urandom(9000)})[:4000],
                                     zipped({"a": b"x" * 90})[:-30]])  # fmt: skip
def test_damaged_archives_are_removed(content: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(content)
    with pytest.raises(FetchError, match=r"a.tgz: damaged archive was removed .*; fetch it again"):
        unpack(archive, tmp_path / "out")
    assert not archive.exists()


def test_a_disk_that_fills_while_unpacking(server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["a.tar"] = tar({"a/1": b"x"})

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", full)
        with pytest.raises(FetchError, match="no space left"):
            fetch([Download(server.url("a.tar"), "a.tar", unpack=True)], folder)
    assert not folder.exists()
    assert left_over(folder) == {"a.tar", "a.tar.sha256"}  # the archive is whole: it is not fetched again
    fetch([Download(server.url("a.tar"), "a.tar", unpack=True)], folder)
    assert len(server.asked) == 1
    assert (folder / "a/1").read_bytes() == b"x"


def test_merging_moves_and_replaces(tmp_path: Path) -> None:
    for path, text in (("s/a/1", "new"), ("s/b/2", "2"), ("t/a/1", "old"), ("t/a/3", "3")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    merge(tmp_path / "s", tmp_path / "t")
    found = {p.relative_to(tmp_path / "t").as_posix(): p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"a/1": "new", "b/2": "2", "a/3": "3"}
    assert not (tmp_path / "s").exists()
