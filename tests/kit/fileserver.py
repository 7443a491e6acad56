"""A loopback server of files, with ranges, that a test may cut, refuse, change, or replace by bare bytes."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class FileServer:
    """Serves bytes by name, with ranges; a test may cut, slow down or change what comes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, list[int]] = {}
        self.statuses: dict[str, list[int]] = {}
        self.tags: dict[str, str] = {}
        self.raw: dict[str, Callable[[Callable[[bytes], object]], object]] = {}
        """Answers by name that a test sends itself, status line and all, through the function it gets."""
        self.ranges_work = True
        self.asked: list[tuple[str, str | None, int]] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: FileServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        owner, content = self.owner, self.owner.files.get(name)
        if name in owner.raw:
            owner.asked.append((name, self.headers.get("Range"), 0))
            self.close_connection = True
            with suppress(OSError):  # the client need not wait for the end
                owner.raw[name](self.wfile.write)
            return
        statuses = owner.statuses.get(name, [])
        status = statuses.pop(0) if statuses else 200 if content is not None else 404
        tag = owner.tags.get(name, '"1"')
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range") in (None, tag)
        headers = {"ETag": tag}
        body = content or b""
        if status == 200 and asked and owner.ranges_work and fresh:
            start, whole = int(asked[1]), len(body)
            if start >= whole:
                status, body = 416, b""
                headers["Content-Range"] = f"bytes */{whole}"
            else:
                status, body = 206, body[start:]
                headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        elif status != 200:
            body = b""
        owner.asked.append((name, self.headers.get("Range"), status))
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        cuts = owner.cuts.get(name)
        if cuts and status in (200, 206):
            body = body[: cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


def left_over(folder: Path) -> set[str]:
    """Return the names of what a download of `folder` has left behind, but for its lock."""
    parts = folder.parent / ".downloads" / folder.name
    return {path.name for path in parts.iterdir()} - {"lock"}
