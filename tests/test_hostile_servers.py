"""Servers that lie about what they send, send too much or too slowly, or send on to where nothing is fetched from."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.fileserver import FileServer
from kit.hostilefiles import SPECIAL

from pruningbench.errors import FetchError, PruningBenchError
from pruningbench.images import fetch as fetching
from pruningbench.images import transfer
from pruningbench.images.fetch import Download, fetch

CONTENT = bytes(range(256)) * 4000
Send = Callable[[bytes], object]


def answer(server: FileServer, head: str, body: bytes = b"") -> Download:
    """Let the server answer with exactly this, and return the download of it."""
    lines = "\r\n".join([*head.split("\n"), "", ""]).encode("latin-1")
    server.raw["a.bin"] = lambda send: send(lines + body)
    return Download(server.url("a.bin"), "a.bin")


def refused(folder: Path, item: Download) -> str:
    with pytest.raises(FetchError) as caught:
        fetch([item], folder)
    text = str(caught.value)
    assert text.startswith(item.url)
    assert text.isprintable()
    assert not (folder / "a.bin").exists()
    return text


@pytest.mark.parametrize("length", ["abc", "-5", "1_000", "0x10", "5, 6", "9" * 30])
def test_a_length_that_is_no_number_is_refused(server: FileServer, folder: Path, length: str) -> None:
    item = answer(server, f"HTTP/1.1 200 OK\nContent-Length: {length}", CONTENT)
    assert "states a Content-Length of" in refused(folder, item)


def test_a_known_size_is_enforced_before_anything_comes(server: FileServer, folder: Path) -> None:
    server.files["a.bin"] = CONTENT
    item = Download(server.url("a.bin"), "a.bin", size=len(CONTENT) - 1)
    assert "states 1,024,000 bytes, but the file has 1,023,999" in refused(folder, item)


@pytest.mark.parametrize("head", ["HTTP/1.0 200 OK", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked"])
@pytest.mark.timeout(30)
def test_an_endless_body_ends_where_the_size_is_known(server: FileServer, folder: Path, head: str) -> None:
    block = b"10000\r\n" + bytes(0x10000) + b"\r\n" if "chunked" in head else bytes(0x10000)
    sent = 0

    def endless(send: Send) -> None:
        nonlocal sent
        send(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        while True:
            send(block)
            sent += len(block)

    server.raw["a.bin"] = endless
    item = Download(server.url("a.bin"), "a.bin", size=100_000)
    assert "sends more than the 100,000 bytes" in refused(folder, item)
    assert sent < 64 * 2**20  # what the system's buffers take
    assert not list((folder.parent / ".downloads/things").glob("*.part"))


@pytest.mark.timeout(30)
def test_an_endless_body_of_unknown_size_ends_too(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGEST_UNSTATED", 3_000_000)

    def endless(send: Send) -> None:
        send(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            send(bytes(2**16))

    server.raw["a.bin"] = endless
    assert "sends more than the 3,000,000 bytes" in refused(folder, Download(server.url("a.bin"), "a.bin"))


def test_a_download_larger_than_any_data_set_is_refused(server: FileServer, folder: Path) -> None:
    item = answer(server, f"HTTP/1.1 200 OK\nContent-Length: {2**40}")
    assert "at most 274,877,906,944 are fetched" in refused(folder, item)


def test_a_part_that_was_not_asked_for_is_not_taken_for_the_file(server: FileServer, folder: Path) -> None:
    item = answer(
        server, "HTTP/1.1 206 Partial Content\nContent-Length: 5\nContent-Range: bytes 0-4/1024000", CONTENT[:5]
    )
    assert "answers with a part of the file (206)" in refused(folder, item)


@pytest.mark.parametrize("given", ["bytes 0-9/20", "bytes 7-19/20", "bytes=10-19/20", "bytes 10-19/x", ""])
def test_another_part_than_asked_for_is_thrown_away(server: FileServer, folder: Path, given: str) -> None:
    part = folder.parent / ".downloads/things/a.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:10])
    heads = iter(
        [f"206 Partial Content\r\nContent-Length: 10\r\nContent-Range: {given}", "200 OK\r\nContent-Length: 20"]
    )
    bodies = iter([b"x" * 10, CONTENT[:20]])
    server.raw["a.bin"] = lambda send: send(f"HTTP/1.1 {next(heads)}\r\n\r\n".encode() + next(bodies))
    fetch([Download(server.url("a.bin"), "a.bin")], folder)
    assert (folder / "a.bin").read_bytes() == CONTENT[:20]
    assert [asked for _, asked, _ in server.asked] == ["bytes=10-", None]


def test_a_part_of_what_was_asked_for_is_gone_on_from(server: FileServer, folder: Path) -> None:
    """A server may give less than the range: the end of its answer is not the end of the file."""
    part = folder.parent / ".downloads/things/a.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:10])
    places = iter([10, 15])

    def five(send: Send) -> None:
        start = next(places)
        head = (
            f"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes {start}-{start + 4}/20\r\n\r\n"
        )
        send(head.encode() + CONTENT[start : start + 5])

    server.raw["a.bin"] = five
    fetch([Download(server.url("a.bin"), "a.bin", size=20)], folder)
    assert (folder / "a.bin").read_bytes() == CONTENT[:20]


@pytest.mark.parametrize("status", ["204 No Content", "203 Non-Authoritative Information", "201 Created"])
def test_an_answer_without_the_file_is_no_empty_file(server: FileServer, folder: Path, status: str) -> None:
    item = answer(server, f"HTTP/1.1 {status}\nContent-Length: 0")
    assert f"the server answers {status[:3]}, which carries no file" in refused(folder, item)


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:text/plain,a", "http://[", "javascript:1"]
)
def test_no_redirect_leaves_the_web(server: FileServer, folder: Path, place: str) -> None:
    item = answer(server, f"HTTP/1.1 302 Found\nLocation: {place}\nContent-Length: 0")
    assert f"redirects to '{place}'; only http and https are followed" in refused(folder, item)
    assert len(server.asked) == 1


@pytest.mark.parametrize("place", ["http://" + "a" * 80 + ".example", "http://127.0.0.1:x/", "http://127.0.0.1/\xff a"])
def test_a_redirect_to_no_address_is_one_line(server: FileServer, folder: Path, place: str) -> None:
    refused(folder, answer(server, f"HTTP/1.1 302 Found\nLocation: {place}\nContent-Length: 0"))


def test_a_redirect_within_the_web_is_followed(server: FileServer, folder: Path) -> None:
    server.files["b.bin"] = CONTENT
    fetch([answer(server, "HTTP/1.1 302 Found\nLocation: /b.bin\nContent-Length: 0")], folder)
    assert (folder / "a.bin").read_bytes() == CONTENT


@pytest.mark.timeout(60)
def test_a_redirect_in_a_circle_is_one_line(server: FileServer, folder: Path) -> None:
    assert "infinite loop" in refused(folder, answer(server, "HTTP/1.1 302 Found\nLocation: /a.bin\nContent-Length: 0"))


def test_a_body_that_drips_is_given_up(server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps a connection alive: without a least rate it would last for years."""
    monkeypatch.setattr(transfer, "TIMEOUT", 0.5)

    def drip(send: Send) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            send(b"x")
            time.sleep(0.05)

    server.raw["a.bin"] = drip
    began = time.monotonic()
    text = refused(folder, Download(server.url("a.bin"), "a.bin"))
    assert "are too slow" in text and "fetched so far are kept" in text
    assert time.monotonic() - began < 20
    assert len(server.asked) == len(fetching.PAUSES) + 1


def test_a_silent_server_is_given_up(server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    server.raw["a.bin"] = lambda _send: time.sleep(1)
    assert "timed out" in refused(folder, Download(server.url("a.bin"), "a.bin"))


@pytest.mark.parametrize(
    "head",
    [
        "\x00\x01\x02",
        "HTTP/1.1 abc",
        "HTTP/1.1 500 \x1b[31mred\x07",
        "HTTP/1.1 200 OK\n" + "\n".join(f"X-{i}: a" for i in range(200)),
        "HTTP/1.1 200 OK\nX: " + "a" * 70_000,
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nzz\n",
    ],
    ids=["binary", "status", "controls", "headers", "long-header", "chunk"],
)
@pytest.mark.timeout(60)
def test_what_is_no_http_is_one_line(server: FileServer, folder: Path, head: str) -> None:
    refused(folder, answer(server, head))


@pytest.mark.parametrize("tag", ['"a\x01b"', '"' + "a" * 5000 + '"', '"a\n b"', '"\xe4"'])
def test_a_strange_version_is_not_sent_back(server: FileServer, folder: Path, tag: str) -> None:
    heads = iter([f"200 OK\r\nETag: {tag}\r\nContent-Length: 20", "206 X\r\nContent-Range: bytes 10-19/20"])
    bodies = iter([CONTENT[:10], CONTENT[10:20]])
    server.raw["a.bin"] = lambda send: send(f"HTTP/1.1 {next(heads)}\r\n\r\n".encode("latin-1") + next(bodies))
    fetch([Download(server.url("a.bin"), "a.bin")], folder)
    assert (folder / "a.bin").read_bytes() == CONTENT[:20]


@pytest.mark.parametrize("record", [b"", b"\xff\xfe", b"no hash\n"])
def test_a_damaged_record_of_the_first_download_accepts_nothing(
    server: FileServer, folder: Path, record: bytes
) -> None:
    server.files["a.bin"] = CONTENT
    fetch([Download(server.url("a.bin"), "a.bin")], folder)
    (folder / "a.bin").unlink()
    (folder.parent / ".downloads/things/a.bin.sha256").write_bytes(record)
    server.files["a.bin"] = b"other"
    with pytest.raises(PruningBenchError, match=r"a\.bin\.sha256(: holds no SHA-256|, line 1: byte 0xff is not UTF-8)"):
        fetch([Download(server.url("a.bin"), "a.bin")], folder)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.timeout(20)
def test_what_was_put_there_by_hand_must_be_a_file(server: FileServer, folder: Path, kind: str) -> None:
    make, words = SPECIAL[kind]
    by_hand = folder.parent / ".downloads/things/a.bin"
    by_hand.parent.mkdir(parents=True)
    make(by_hand)
    with pytest.raises(PruningBenchError, match=words):
        fetch([Download(server.url("a.bin"), "a.bin", md5="0" * 32)], folder)


def test_no_redirect_leaves_encryption() -> None:
    from urllib.request import HTTPRedirectHandler, Request

    from pruningbench.images.transfer import _opener

    (follower,) = [handler for handler in _opener().handlers if isinstance(handler, HTTPRedirectHandler)]
    with pytest.raises(FetchError, match=r"^https://a/x: redirects to 'http://b/y', which is not encrypted"):
        follower.http_error_302(Request("https://a/x"), None, 302, "Found", {"Location": "http://b/y"})
