"""A loopback server that speaks the Hugging Face hub's protocol, as huggingface-hub uses it.

Repositories live in memory. Small text files are kept "in git" (their ETag is the git blob's SHA-1) and
served in place; weights and tables are kept "in LFS" (their ETag is the SHA-256) and served by redirect
from a second port, as the hub redirects to its storage. A test may cut connections, swap bytes, delete
revisions and see every request.

    with HubServer() as hub:
        commit = hub.commit("dataset", "someone/flowers", {"data/test-0.parquet": content})
        hub.point_client_here(monkeypatch, tmp_path / "hub")
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from kit.hubcommits import Writes, WritingHandler

LFS_SUFFIXES = (".parquet", ".safetensors", ".bin", ".pth", ".npy", ".zip", ".gz")
PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


def git_blob(content: bytes) -> str:
    """Return the SHA-1 by which git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    range: str | None


@dataclass
class Repo:
    """A repository: files and parent of each commit, and which commit each branch or tag names."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def resolve(self, revision: str) -> str | None:
        """Return the commit that a branch, tag or commit names, or None."""
        return self.refs.get(revision, revision if revision in self.commits else None)


class HubServer:
    """The hub on a loopback port; use it as a context manager.

    Attributes:
        requests: everything asked for so far.
        cuts: for each file name, after how many bytes the connection is cut; each entry works once.
        swaps: for each file name, other bytes to serve in place of its content, under its ETag.
        down: True lets the server answer 503 to everything.
        writes: who may write, and how commits are answered.
        stored: (name, content) of files in storage by SHA-256.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []
        self.cuts: dict[str, int] = {}
        self.swaps: dict[str, bytes] = {}
        self.down = False
        self.writes = Writes()
        self.stored: dict[str, tuple[str, bytes]] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        self._threads = [threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True) for s in self._servers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        """Address of the hub, as HF_ENDPOINT takes it."""
        return f"http://127.0.0.1:{self._servers[0].server_address[1]}"

    @property
    def storage(self) -> str:
        """Address of the storage that LFS files are redirected to."""
        return f"http://127.0.0.1:{self._servers[1].server_address[1]}"

    def commit(self, kind: str, repo: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Put a commit with exactly these files on a branch and return its 40 hex digits.

        Args:
            kind: ``model`` or ``dataset``.
            repo: ``owner/name``.
            files: content by path.
            branch: the branch that names the commit from now on.
        """
        found = self.repos.setdefault((kind, repo), Repo())
        listing = "".join(f"{path} {git_blob(content)}\n" for path, content in sorted(files.items()))
        commit = hashlib.sha1(f"{repo} {len(found.commits)}\n{listing}".encode()).hexdigest()
        found.commits[commit] = dict(files)
        found.refs[branch] = commit
        for path, content in files.items():
            self.stored[hashlib.sha256(content).hexdigest()] = (path, content)
        return commit

    def forget(self, kind: str, repo: str, revision: str) -> None:
        """Remove a commit and the branches that name it, as a rewritten history does."""
        found = self.repos[kind, repo]
        commit = found.resolve(revision)
        found.commits.pop(commit or "", None)
        found.refs = {name: named for name, named in found.refs.items() if named != commit}

    def environment(self, cache: Path) -> dict[str, str]:
        """Return the variables that make a client in another process use this server and a cache of its own."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_CACHE": str(cache / "hub"),
                "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}  # fmt: skip

    def point_client_here(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Make huggingface-hub in this process use this server and a cache of its own, until the test ends."""
        from huggingface_hub import constants

        for name, value in self.environment(cache).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)

    def downloads(self, name: str) -> list[Request]:
        """Return the requests for the content of files whose path ends in `name`."""
        stored = {digest for digest, (path, _) in self.stored.items() if path.endswith(name)}
        return [r for r in self.requests if r.method == "GET"
                and (r.path.endswith(name) or r.path.rpartition("/")[2] in stored)]  # fmt: skip


class _Handler(WritingHandler, BaseHTTPRequestHandler):
    """Answers one connection."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        split = urlsplit(self.path)
        path = unquote(split.path)
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range")))
        if self.hub.down:
            self._send(503, b"the hub is down")
        elif self.command in ("POST", "PUT"):
            self.answer_write(self.command, path)
        elif path.startswith("/stored/"):
            name, content = self.hub.stored[path.removeprefix("/stored/")]
            self._send_file(name, content, {"ETag": f'"{path.removeprefix("/stored/")}"'})
        elif api := re.fullmatch(r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)/?(.*))?", path):
            self._answer_api(*api.groups(default=""), query=parse_qs(split.query))
        elif file := re.fullmatch(r"/(datasets/|spaces/|)([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            prefix, repo, revision, name = file.groups()
            kind = {prefix: kind for kind, prefix in PREFIX.items()}[prefix]
            self._answer_file(kind, repo, revision, name)
        else:
            self._send(404, b"no such page")

    def _find(self, kind: str, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return a commit and its files; answer what the hub answers when there is none."""
        found = self.hub.repos.get((kind, repo))
        if found is None:
            # what the hub says to strangers about repositories that are absent or private
            self._refuse(401, "RepoNotFound", "Repository not found")
            return None
        commit = found.resolve(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit, found.commits[commit]

    def _answer_api(self, kind: str, repo: str, what: str, revision: str, below: str, query: dict[str, Any]) -> None:
        found = self._find(kind, repo, revision or "main")
        if found is None:
            return
        commit, files = found
        if what == "tree":
            entries = [_entry(name, content) for name, content in sorted(files.items())]
            self._send_json([entry for entry in entries if not below or entry["path"].startswith(f"{below}/")])
            return
        siblings = [{"rfilename": name} for name in sorted(files)]
        if "blobs" in query:
            siblings = [{"rfilename": e["path"], "size": e["size"], "blobId": e["oid"]}
                        | ({"lfs": {"sha256": e["lfs"]["oid"], "size": e["size"], "pointerSize": 134}} if "lfs" in e else {})
                        for e in (_entry(name, content) for name, content in sorted(files.items()))]  # fmt: skip
        self._send_json({"_id": commit[:24], "id": repo, f"{kind}Id": repo, "sha": commit, "private": self.hub.repos[kind, repo].private,
                         "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
                         "lastModified": "2026-01-01T00:00:00.000Z", "siblings": siblings})  # fmt: skip

    def _answer_file(self, kind: str, repo: str, revision: str, name: str) -> None:
        found = self._find(kind, repo, revision)
        if found is None:
            return
        commit, files = found
        if name not in files:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        content = files[name]
        if name.endswith(LFS_SUFFIXES):
            digest = hashlib.sha256(content).hexdigest()
            self._send(302, b"", {"X-Repo-Commit": commit, "X-Linked-Size": str(len(content)),
                                  "X-Linked-Etag": f'"{digest}"', "Location": f"{self.hub.storage}/stored/{digest}"})  # fmt: skip
        else:
            self._send_file(name, content, {"X-Repo-Commit": commit, "ETag": f'"{git_blob(content)}"'})

    def _send_file(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        """Send a file or the range asked for; cut the connection where the test says so."""
        content = self.hub.swaps.get(name, content)
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, status = int(asked[1]), 206
            last = min(int(asked[2] or len(content) - 1), len(content) - 1)
            if start >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{last}/{len(content)}"}
            content = content[: last + 1]
        part = content[start:]
        cut = self.hub.cuts.pop(name, None) if self.command == "GET" else None
        self._send(status, part, {"Accept-Ranges": "bytes", **headers}, cut=cut)

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] = {}) -> None:
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {"X-Error-Code": code, "X-Error-Message": message, **headers})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] = {}, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if cut is None else body[:cut])
        self.wfile.flush()
        if cut is not None:
            self.close_connection = True


def _entry(name: str, content: bytes) -> dict[str, Any]:
    """Describe a file as the hub's tree listing does."""
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_blob(content)}
    if name.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry
