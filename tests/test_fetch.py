"""Downloads from a loopback server: whole, cut, changed, wrong, refused, on a full disk, without a network."""

from __future__ import annotations

import errno
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from kit.fileserver import FileServer, left_over

from pruningbench.errors import FetchError, UsageError
from pruningbench.images.fetch import Download, data_folder, fetch

CONTENT = bytes(range(256)) * 20_000  # five blocks


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_a_file_comes_whole_and_is_checked(server: FileServer, folder: Path) -> None:
    server.files["a.bin"] = CONTENT
    seen: list[tuple[str, int, int | None]] = []
    item = Download(server.url("a.bin"), "inner/a.bin", md5=md5(CONTENT))
    fetch([item], folder, lambda *note: seen.append(note))
    assert (folder / "inner/a.bin").read_bytes() == CONTENT
    assert seen[0] == ("a.bin", 0, len(CONTENT))
    assert seen[-1] == ("a.bin", len(CONTENT), len(CONTENT))
    assert left_over(folder) == set()
    fetch([item], folder)
    assert len(server.asked) == 1  # what is there is not asked for again


def test_a_cut_connection_is_taken_up_where_it_ended(server: FileServer, folder: Path) -> None:
    server.files["a.bin"] = CONTENT
    server.cuts["a.bin"] = [1_500_000, 700_000]
    fetch([Download(server.url("a.bin"), "a.bin", sha256=hashlib.sha256(CONTENT).hexdigest())], folder)
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert server.asked == [
        ("a.bin", None, 200), ("a.bin", "bytes=1500000-", 206), ("a.bin", "bytes=2200000-", 206),
    ]  # fmt: skip


def test_ctrl_c_keeps_the_part_and_the_next_run_goes_on(server: FileServer, folder: Path) -> None:
    server.files["a.bin"] = CONTENT

    def interrupt(_what: str, done: int, _total: int | None) -> None:
        if done > 2_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch([Download(server.url("a.bin"), "a.bin")], folder, interrupt)
    assert not (folder / "a.bin").exists()
    kept = (folder.parent / ".downloads/things/a.bin.part").stat().st_size
    assert kept > 2_000_000
    fetch([Download(server.url("a.bin"), "a.bin")], folder)
    assert server.asked[-1] == ("a.bin", f"bytes={kept}-", 206)
    assert (folder / "a.bin").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_begun_anew(server: FileServer, folder: Path) -> None:
    server.files["a.bin"], server.cuts["a.bin"] = CONTENT, [1_000_000, 0, 0, 0]
    with pytest.raises(FetchError, match="1,000,000 bytes fetched so far are kept"):
        fetch([Download(server.url("a.bin"), "a.bin")], folder)
    changed = CONTENT[::-1]
    server.files["a.bin"], server.tags["a.bin"], server.cuts["a.bin"] = changed, '"2"', []
    fetch([Download(server.url("a.bin"), "a.bin")], folder)
    assert server.asked[-1] == ("a.bin", "bytes=1000000-", 200)
    assert (folder / "a.bin").read_bytes() == changed


def test_a_server_without_ranges_is_served_too(server: FileServer, folder: Path) -> None:
    server.files["a.bin"], server.cuts["a.bin"], server.ranges_work = CONTENT, [1_000_000], False
    fetch([Download(server.url("a.bin"), "a.bin", md5=md5(CONTENT))], folder)
    assert (folder / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [0, 10])
def test_a_part_as_long_as_the_file_or_longer(server: FileServer, folder: Path, extra: int) -> None:
    server.files["a.bin"] = CONTENT
    part = folder.parent / ".downloads/things/a.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"x" * extra)
    fetch([Download(server.url("a.bin"), "a.bin", md5=md5(CONTENT))], folder)
    assert (folder / "a.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing_and_names_all(server: FileServer, folder: Path) -> None:
    server.files["a.bin"] = CONTENT
    item = Download(server.url("a.bin"), "a.bin", md5="0" * 32)
    with pytest.raises(FetchError) as caught:
        fetch([item], folder)
    text = str(caught.value)
    assert all(part in text for part in (item.url, "a.bin", "0" * 32, md5(CONTENT), "run the same command again"))
    assert not (folder / "a.bin").exists()
    assert left_over(folder) == set()


def test_without_a_published_checksum_a_later_change_is_noticed(server: FileServer, folder: Path) -> None:
    server.files["a.bin"] = b"first"
    item = Download(server.url("a.bin"), "a.bin")
    fetch([item], folder)
    record = folder.parent / ".downloads/things/a.bin.sha256"
    assert record.read_text() == f"{hashlib.sha256(b'first').hexdigest()}  a.bin\n"
    (folder / "a.bin").unlink()
    server.files["a.bin"] = b"second"
    with pytest.raises(FetchError, match="the source has changed since the first download"):
        fetch([item], folder)
    assert not (folder / "a.bin").exists()
    record.unlink()
    fetch([item], folder)
    assert (folder / "a.bin").read_bytes() == b"second"


class FullDisk(io.FileIO):
    """A file on a disk that has room for a million bytes."""

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content) or 0


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a.bin"] = CONTENT
    really_open = Path.open

    def open_part(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        return FullDisk(path, mode) if path.suffix == ".part" else really_open(path, mode, *more, **named)

    monkeypatch.setattr(Path, "open", open_part)
    with pytest.raises(FetchError, match=r"no space left for .*things; .* PRUNINGBENCH_DATA"):
        fetch([Download(server.url("a.bin"), "a.bin")], folder)
    assert left_over(folder) == set()
    assert not folder.exists()


def test_no_network_is_one_line_with_the_way_by_hand(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("a.bin")
    server.close()
    with pytest.raises(FetchError) as caught:
        fetch([Download(url, "a.bin")], folder)
    assert re.search(r"cannot be fetched \(.*refused.*check the network", str(caught.value))
    by_hand = folder.parent / ".downloads/things/a.bin"
    assert f"put the file at {by_hand} by hand" in str(caught.value)
    by_hand.write_bytes(CONTENT)
    fetch([Download(url, "a.bin", md5=md5(CONTENT))], folder)
    assert (folder / "a.bin").read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_not_tried_again(server: FileServer, folder: Path) -> None:
    with pytest.raises(FetchError, match="the server answers 404 Not Found"):
        fetch([Download(server.url("gone"), "gone")], folder)
    assert len(server.asked) == 1


def test_a_busy_server_is_tried_again(server: FileServer, folder: Path) -> None:
    server.files["a.bin"], server.statuses["a.bin"] = CONTENT, [503, 429]
    fetch([Download(server.url("a.bin"), "a.bin")], folder)
    assert [status for _, _, status in server.asked] == [503, 429, 200]


def test_only_the_web_is_fetched_from(folder: Path) -> None:
    with pytest.raises(FetchError, match="only http and https"):
        fetch([Download("file:///etc/hostname", "a")], folder)


def test_two_fetches_of_one_data_set_do_not_mix(server: FileServer, folder: Path) -> None:
    import fcntl

    server.files["a.bin"] = CONTENT
    lock = folder.parent / ".downloads/things/lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="another process is fetching"):
            fetch([Download(server.url("a.bin"), "a.bin")], folder)
    fetch([Download(server.url("a.bin"), "a.bin")], folder)


def test_a_folder_that_cannot_be_made_is_one_line(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot be written .*; set PRUNINGBENCH_DATA"):
        fetch([Download(server.url("a"), "a")], tmp_path / "file" / "data")


def test_the_data_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNINGBENCH_DATA", "~/there")
    assert data_folder() == Path.home() / "there"
    monkeypatch.setenv("PRUNINGBENCH_DATA", "~nobody-of-that-name/there")
    with pytest.raises(UsageError):
        data_folder()
    monkeypatch.delenv("PRUNINGBENCH_DATA")
    assert data_folder().is_absolute()
