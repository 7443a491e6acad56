"""The writing half of the loopback hub: repositories are created, files uploaded, and commits made on a parent.

A commit names its parent; if that is no longer the newest commit, the answer is 412, as the hub's. A test may refuse
tokens, answer commits with other statuses, or hold commits until several have arrived.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.hubserver import HubServer

KINDS = {"": "model", "datasets/": "dataset", "spaces/": "space"}


@dataclass
class Writes:
    """What a hub accepts, and what a test lets it do.

    Attributes:
        tokens: for each token, the owners that it may write for.
        statuses: answers to the next commits instead of making them; each works once.
        before_commit: called with (kind, repo) before a commit is looked at.
        commits: (kind, repo, parent, status) of each commit that was asked for.
        secret: the text of error messages; ``{token}`` becomes the token that the client sent.
    """

    tokens: dict[str, set[str]] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    before_commit: Callable[[str, str], None] | None = None
    commits: list[tuple[str, str, str, int]] = field(default_factory=list)
    secret: str = "no"
    lock: threading.Lock = field(default_factory=threading.Lock)


class WritingHandler:
    """The answers to POST and PUT; mixed into the handler of the hub."""

    hub: HubServer
    headers: Any
    rfile: Any

    def answer_write(self, method: str, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if upload := re.fullmatch(r"/upload/([0-9a-f]{64})", path):
            self._upload(upload[1], body)
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif batch := re.fullmatch(r"/(datasets/|spaces/|)([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            if self._may_write(batch[2]):
                self._batch(json.loads(body)["objects"])
        elif api := re.fullmatch(r"/api/(model|dataset|space)s/([^/]+/[^/]+)/(preupload|commit)/([^/]+)", path):
            kind, repo, what, branch = api.groups()
            if not self._may_write(repo):
                return
            if (kind, repo) not in self.hub.repos:
                self._refuse(404, "RepoNotFound", "Repository not found")
            elif what == "preupload":
                self._preupload(kind, repo, branch, json.loads(body)["files"])
            else:
                self._commit(kind, repo, branch, [json.loads(line) for line in body.splitlines()])
        else:
            self._send(404, f"no such page for {method}".encode())

    def _token(self) -> str:
        return str(self.headers.get("Authorization", "")).removeprefix("Bearer ")

    def _may_write(self, repo: str) -> bool:
        owners = self.hub.writes.tokens.get(self._token())
        message = self.hub.writes.secret.format(token=self._token())
        if owners is None:
            self._refuse(401, "", f"Invalid credentials in Authorization header {message}")
        elif repo.partition("/")[0] not in owners:
            self._refuse(403, "", f"You don't have the rights: {message}")
        else:
            return True
        return False

    def _create(self, wanted: dict[str, Any]) -> None:
        owners = sorted(self.hub.writes.tokens.get(self._token(), {""}))
        repo = f"{wanted.get('organization') or owners[0]}/{wanted['name']}"
        kind = wanted.get("type") or "model"
        if not self._may_write(repo):
            return
        prefix = {kind: prefix for prefix, kind in KINDS.items()}[kind]
        with self.hub.writes.lock:
            exists = (kind, repo) in self.hub.repos
            if not exists:
                self.hub.commit(kind, repo, {".gitattributes": b"*.parquet filter=lfs\n"})
                self.hub.repos[kind, repo].private = bool(
                    wanted.get("private") or wanted.get("visibility") == "private"
                )
        if exists:
            body = json.dumps({"error": "You already created this repo", "url": f"{self.hub.url}/{prefix}{repo}"})
            self._send(409, body.encode(), {"Content-Type": "application/json"})
        else:
            self._send_json({"url": f"{self.hub.url}/{prefix}{repo}", "name": repo})

    def _validate(self, card: str) -> None:
        import yaml

        found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
        metadata = yaml.safe_load(found[1]) if found else None
        good = isinstance(metadata, dict) and re.fullmatch(r"[a-z0-9.-]+", str(metadata.get("license")))
        errors = [] if good else [{"message": "the metadata are none"}]
        self._send(200 if good else 400, json.dumps({"errors": errors, "warnings": []}).encode())

    def _preupload(self, kind: str, repo: str, branch: str, files: list[dict[str, Any]]) -> None:
        from kit.hubserver import LFS_SUFFIXES, git_blob

        found = self.hub.repos[kind, repo]
        there = found.commits[found.refs[branch]]
        answers = []
        for file in files:
            name, is_lfs = file["path"], file["path"].endswith(LFS_SUFFIXES)
            oid = None
            if name in there:
                oid = hashlib.sha256(there[name]).hexdigest() if is_lfs else git_blob(there[name])
            answers.append(
                {"path": name, "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False, "oid": oid}
            )
        self._send_json({"files": answers})

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        listed = []
        for one in objects:
            known = one["oid"] in self.hub.stored
            upload = {"upload": {"href": f"{self.hub.storage}/upload/{one['oid']}"}}
            listed.append({"oid": one["oid"], "size": one["size"], **({} if known else {"actions": upload})})
        self._send_json({"transfer": "basic", "objects": listed})

    def _upload(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._send(400, b"another hash")
            return
        self.hub.stored[oid] = ("", body)
        self._send(200, b"")

    def _commit(self, kind: str, repo: str, branch: str, lines: list[dict[str, Any]]) -> None:
        writes = self.hub.writes
        if writes.before_commit is not None:
            writes.before_commit(kind, repo)
        header = next(line["value"] for line in lines if line["key"] == "header")
        parent = header.get("parentCommit", "")
        with writes.lock:
            found = self.hub.repos[kind, repo]
            newest = found.refs[branch]
            status = writes.statuses.pop(0) if writes.statuses else 412 if parent and parent != newest else 200
            writes.commits.append((kind, repo, parent, status))
            if status == 200:
                files = self._edited(dict(found.commits[newest]), lines)
                commit = self.hub.commit(kind, repo, files, branch)
                found.parents[commit] = newest
        if status == 200:
            url = f"{self.hub.url}/{kind}s/{repo}/commit/{commit}"
            self._send_json({"success": True, "commitOid": commit, "commitUrl": url, "pullRequestUrl": None})
        else:
            self._refuse(status, "", f"Commit refused: {writes.secret.format(token=self._token())}")

    def _edited(self, files: dict[str, bytes], lines: list[dict[str, Any]]) -> dict[str, bytes]:
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]][1]
            elif key == "deletedFile":
                del files[value["path"]]
        return files
