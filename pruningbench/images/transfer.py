"""One request of a download: what the response may say, how much of it is accepted, and how slowly it may arrive.

Nothing that a server says is trusted: not where it redirects to, not which part of the file it sends, not how long
that part is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from pruningbench.errors import FetchError

if TYPE_CHECKING:
    from urllib.request import OpenerDirector, Request

BLOCK = 1 << 20
"""Bytes per read."""
TIMEOUT = 30.0
"""Seconds without a response after which a connection counts as lost."""
SLOWEST = 1024
"""Bytes per second, averaged over `TIMEOUT`, below which a connection counts as lost."""
LARGEST = 2**38
"""Bytes of the largest download, 256 GiB; ImageNet's training images have 138."""
LARGEST_UNSTATED = 2**34
"""Maximum bytes accepted from a server that does not state the size, 16 GiB."""
_WEB = re.compile(r"https?://", re.IGNORECASE)
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
LONGEST_VALIDATOR = 200


class CutError(ConnectionError):
    """The connection ended before the file did."""


class SlowError(CutError):
    """Bytes arrive, but too slowly for the download ever to finish."""


def transfer(url: str, part: Path, size: int | None, note: Callable[[int, int | None], None]) -> None:
    """Make one request for the rest of a file, and append the response to `part`.

    Args:
        url: where the file is.
        part: the part downloaded so far; kept if the connection ends too early.
        size: bytes of the file, if known.
        note: receives the number of bytes downloaded so far, and the total.

    Raises:
        FetchError: for an untrustworthy response: a size that differs from the known or stated one, a part that
            was not requested, an address that is not http or https.
        CutError: if the connection ends, or is too slow, before the file is complete.
        urllib.error.URLError, http.client.HTTPException, TimeoutError: as urllib raises them.
    """
    offset = part.stat().st_size if part.exists() else 0
    with _opener().open(_request(url, offset, part), timeout=TIMEOUT) as response:
        received, total = _stated_start_and_total(url, response, offset, size, part)
        most = LARGEST_UNSTATED if total is None else total
        part.parent.mkdir(parents=True, exist_ok=True)
        validator(part).write_text(_strong_validator(response.headers), "utf-8")
        with part.open("ab" if received else "wb") as file:
            note(received, total)
            for block in _blocks(response):
                received += len(block)
                if received > most:
                    break
                file.write(block)
                note(received, total)
    if received > most:
        part.unlink()
        raise FetchError(f"{url}: the server sends more than the {most:,} bytes that the file may have; it is refused")
    if total is not None and received != total:
        raise CutError(f"the connection ended after {received} of {total} bytes")


def validator(part: Path) -> Path:
    """Return the file that records which version of a download `part` belongs to."""
    return part.with_name(f"{part.name}.version")


def stated_total(headers: Any) -> int | None:
    """Return the size of the whole file that a response about a part states."""
    total = (headers.get("Content-Range") or "").rpartition("/")[2]
    return int(total) if _NUMBER.fullmatch(total) else None


def _stated_start_and_total(
    url: str, response: Any, offset: int, size: int | None, part: Path
) -> tuple[int, int | None]:
    """Return the byte at which the body of a response begins, and the size of the whole file (None: unknown)."""
    start, total = 0, _length(url, response)
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        if not offset:
            raise FetchError(
                f"{url}: the server answers with a part of the file (206), although the whole file was requested"
            )
        content_range = _RANGE.fullmatch(response.headers.get("Content-Range") or "")
        if content_range is None or int(content_range[1]) != offset:
            part.unlink()
            raise CutError("the server sent another part than requested")
        start = offset
        total = int(content_range[3]) if content_range[3] != "*" else None if total is None else offset + total
    elif response.status != HTTPStatus.OK:
        raise FetchError(f"{url}: the server answers {response.status}, which carries no file")
    if size is not None and total not in (None, size):
        raise FetchError(
            f"{url}: the server states {total:,} bytes, but the file has {size:,}: the source has changed or is not to "
            "be trusted"
        )
    if total is not None and total > LARGEST:
        raise FetchError(f"{url}: the server states {total:,} bytes; at most {LARGEST:,} are fetched")
    return start, size if total is None else total


def _length(url: str, response: Any) -> int | None:
    """Return the length of a body, or None if it is not stated."""
    text = response.headers.get("Content-Length")
    if text is None or getattr(response, "chunked", False):  # chunks state their own lengths, which apply
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise FetchError(f"{url}: the server states a Content-Length of {text[:40]!r}, which is not a number of bytes")
    return int(text)


def _blocks(response: Any) -> Iterator[bytes]:
    """Yield blocks as they arrive; any network failure is a cut, a disk failure is not."""
    since, came = time.monotonic(), 0
    while True:
        try:
            block = response.read1(BLOCK)
        except OSError as error:
            raise CutError(str(error)) from None
        if not block:
            return
        yield block
        came += len(block)
        waited = time.monotonic() - since
        if waited > TIMEOUT:
            if came < SLOWEST * waited:
                raise SlowError(f"{came:,} bytes in {waited:.0f} seconds are too slow")
            since, came = time.monotonic(), 0


def _request(url: str, start: int, part: Path) -> Request:
    """Return the request for a file from byte `start` on, provided that it is still the same file."""
    from urllib.request import Request

    if not _WEB.match(url):
        raise FetchError(f"{url}: only http and https addresses are fetched")
    headers = {"User-Agent": "pruningbench", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        noted = validator(part)
        version = noted.read_text("utf-8") if noted.exists() else ""
        if version:
            headers["If-Range"] = version
    return Request(url, headers=headers)  # noqa: S310 - checked above


def _opener() -> OpenerDirector:
    """Return an opener for http and https only: urllib's own also opens, and follows redirects to, files and FTP."""
    from urllib import request

    class Redirects(request.HTTPRedirectHandler):
        """Follows redirects to http and https addresses."""

        def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
            try:
                target = urljoin(req.full_url, headers.get("Location") or "")
            except ValueError:
                target = ""
            if not _WEB.match(target):
                where = headers.get("Location") or "nowhere"
                raise FetchError(f"{req.full_url}: redirects to {where[:200]!r}; only http and https are followed")
            if req.full_url.lower().startswith("https:") and not target.lower().startswith("https:"):
                raise FetchError(
                    f"{req.full_url}: redirects to {target[:200]!r}, which is not encrypted; it is not followed"
                )
            return super().http_error_302(req, fp, code, msg, headers)

        http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.UnknownHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _strong_validator(headers: Any) -> str:
    """Return what identifies a version of a file byte by byte: a strong ETag, or the date of last modification."""
    tag = headers.get("ETag") or ""
    value: str = tag if tag.startswith('"') else headers.get("Last-Modified") or ""
    return value if value.isascii() and value.isprintable() and len(value) <= LONGEST_VALIDATOR else ""
