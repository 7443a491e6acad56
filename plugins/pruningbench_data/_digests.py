"""Fingerprints of files: based on content, and cheap when nothing has changed.

The cache folder stores a file's SHA-256 with its path, size, inode, and times of modification and status change; the
hash is computed again when one of these differs, or when everything has to be verified. Selections of more than
`CONTENT_LIMIT` bytes are distinguished only by the names and sizes of their files: reading all of ImageNet before each
run would cost more than it is worth.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from pruningbench.contract import DataError, check_regular, default_cache_folder, must_reread, open_file

CONTENT_LIMIT = 16 * 2**30
"""Largest selection, in bytes, whose content is hashed."""
SETTLED = 2.0
"""Minimum age in seconds of a file whose hash is stored: later changes then show in its times."""
_TABLE = "CREATE TABLE IF NOT EXISTS contents (path TEXT PRIMARY KEY, state TEXT, sha256 TEXT)"
_Digests = dict[str, tuple[str, str]]
"""Path -> state of the file (`_state`) and its SHA-256."""


def fingerprint(*parts: object) -> str:
    """Return 16 hex digits that depend on all parts: bytes, strings, numbers, and sequences of these."""
    sha = hashlib.sha256()
    _update(sha, parts)
    return sha.hexdigest()[:16]


def _update(sha: hashlib._Hash, part: object) -> None:
    if isinstance(part, bytes):
        sha.update(b"b%d:" % len(part) + part)
    elif isinstance(part, str):
        _update(sha, part.encode())
    elif isinstance(part, (list, tuple)):
        sha.update(b"l%d:" % len(part))
        for item in part:
            _update(sha, item)
    else:
        _update(sha, repr(part))


def contents(paths: Sequence[Path]) -> list[str]:
    """Return for each file a token of its content: its SHA-256, or its size if the selection is too large.

    Raises:
        DataError: if a file is missing or unreadable, or is a pipe, a device or a folder.
    """
    try:
        stats = [check_regular(path) for path in paths]
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if sum(stat.st_size for stat in stats) > CONTENT_LIMIT:
        return [f"size {stat.st_size}" for stat in stats]
    names = [os.fspath(path.resolve()) for path in paths]
    stored = {} if must_reread() else _stored_digests(names)
    digests: dict[str, str] = {}
    unstored: _Digests = {}
    todo = []
    for name, stat in zip(names, stats, strict=True):
        state, digest = stored.get(name, ("", ""))
        if state == _state(stat):
            digests[name] = digest
        else:
            todo.append((name, stat))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for (name, stat), digest in zip(todo, pool.map(_hash, [name for name, _ in todo]), strict=True):
            digests[name] = digest
            if time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED:
                unstored[name] = (_state(stat), digest)
    _store_digests(unstored)
    return [digests[name] for name in names]


def _state(stat: os.stat_result) -> str:
    """Return size, inode and times: a file that another one replaced differs even if it got its modification time."""
    return f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _hash(name: str) -> str:
    try:
        with open_file(Path(name)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None


def _stored_digests(names: Iterable[str]) -> _Digests:
    """Return the cached entries of these files, or none if the cache cannot be read."""
    try:
        with closing(_database()) as database:
            rows = (database.execute("SELECT * FROM contents WHERE path = ?", (name,)).fetchone() for name in names)
            return {row[0]: row[1:] for row in rows if row}
    except (sqlite3.Error, OSError):
        return {}


def _store_digests(digests: _Digests) -> None:
    """Store digests for the next run; an unwritable cache costs time, but does not affect results."""
    if not digests:
        return
    try:
        with closing(_database()) as database, database:
            rows = [(name, *values) for name, values in digests.items()]
            database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", rows)
    except (sqlite3.Error, OSError):
        return


def _database() -> sqlite3.Connection:
    folder = default_cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "digests.sqlite", timeout=5)
    database.execute(_TABLE)
    return database
