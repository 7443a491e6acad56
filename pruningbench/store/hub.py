"""Published results: the submissions in a data set on a hub, fetched at one commit and checked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pruningbench.base.files import default_cache_folder, read_plain, write_whole
from pruningbench.base.reading import one_line, parse_json
from pruningbench.errors import DataError, FetchError, PruningBenchError, UsageError
from pruningbench.store.hubclient import Kind, explained, is_repo
from pruningbench.store.submission_format import LARGEST_FILE, SUFFIX

T = TypeVar("T")
FOLDER = "submissions"
"""Folder of the submissions in a data set."""
MOST_FILES, MOST_BYTES = 1000, 4 << 30
"""Largest number of submissions in a data set that are read, and their largest total size in bytes."""
_NAME = re.compile(rf"{FOLDER}/[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}{re.escape(SUFFIX)}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,119}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Listed:
    """A file of a commit: its size in bytes, and its SHA-256 or, if it is kept in git, its blob's SHA-1."""

    size: int
    digest: str

    def is_of(self, content: bytes) -> bool:
        """Whether this is the file with this content."""
        if len(self.digest) == 64:
            return hashlib.sha256(content).hexdigest() == self.digest
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == self.digest


@dataclass(frozen=True)
class Published:
    """Submissions of a data set at one commit.

    Attributes:
        repo: ``OWNER/NAME``.
        revision: the commit, 40 hex digits.
        files: the submissions on this machine, in the order of their names.
    """

    repo: str
    revision: str
    files: tuple[Path, ...]

    @property
    def address(self) -> str:
        """The source that names exactly these submissions."""
        return f"hub:{self.repo}@{self.revision}"


def fetch_published(address: str) -> Published:
    """Fetch the submissions of ``OWNER/NAME[@REVISION]`` into the hub's cache, and check them against their hashes.

    A commit that has been fetched before is not asked for again. The newest commit is used if no revision is given.

    Raises:
        UsageError: if the address is malformed, or the data set has no submissions.
        FetchError: if the hub cannot be reached or has no such data set, or a file is too large or damaged.
    """
    repo, revision = parse_address(address)
    known = _noted(repo, revision)
    if known is None:
        revision, known = ask_listing(repo, revision)
    published = fetch_listed(repo, revision, known)
    if not published.files:
        raise UsageError(f"hub:{repo}: has no submissions ({FOLDER}/*{SUFFIX}) at {revision[:12]}")
    return published


def fetch_listed(repo: str, revision: str, listing: Mapping[str, Listed]) -> Published:
    """Fetch the submissions in the listing of a commit, of which there may be none; see `fetch_published`."""
    wanted = {name: listing[name] for name in submissions_in(listing)}
    _check_sizes(repo, wanted)
    files = tuple(_fetched(repo, revision, name, listed) for name, listed in wanted.items())
    _note(repo, revision, wanted)
    return Published(repo, revision, files)


def submissions_in(names: Iterable[str]) -> list[str]:
    """Return the names of the submissions among the files of a data set, sorted; any other name is left out."""
    return sorted(name for name in names if _NAME.fullmatch(name) and ".." not in name)


def parse_address(address: str) -> tuple[str, str]:
    """Return the repository and the revision (``main`` if there is none) of ``OWNER/NAME[@REVISION]``.

    Raises:
        UsageError: for anything else.
    """
    repo, at, revision = address.partition("@")
    if not is_repo(repo) or (at and (not _REVISION.fullmatch(revision) or ".." in revision)):
        raise UsageError(f"hub:{one_line(address, 100)}: must be hub:OWNER/NAME or hub:OWNER/NAME@REVISION")
    return repo, revision or "main"


def ask_listing(repo: str, revision: str, kind: Kind = "dataset") -> tuple[str, dict[str, Listed]]:
    """Ask the hub for the commit that a revision names, and its files.

    Raises:
        FetchError: as `fetch_published`.
    """
    from huggingface_hub import HfApi

    info: Any = _asked(
        repo, kind, lambda: HfApi().repo_info(repo, repo_type=kind, revision=revision, files_metadata=True)
    )
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise FetchError(f"{repo}: the hub names no commit for {revision!r}; check HF_ENDPOINT")
    return info.sha, {str(file.rfilename): _listed(file) for file in info.siblings or ()}


def _listed(file: Any) -> Listed:
    digest = file.lfs.sha256 if file.lfs else file.blob_id
    size = file.lfs.size if file.lfs else file.size
    return Listed(size if isinstance(size, int) and size >= 0 else LARGEST_FILE + 1, str(digest))


def _asked(repo: str, kind: Kind, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except PruningBenchError:
        raise
    except Exception as error:  # noqa: BLE001 - errors of the client's HTTP library, which changes with its version
        raise FetchError(explained(error, kind, repo)) from None


def _check_sizes(repo: str, wanted: Mapping[str, Listed]) -> None:
    if len(wanted) > MOST_FILES:
        raise FetchError(f"{repo}: holds {len(wanted):,} submissions, at most {MOST_FILES:,} are read")
    for name, listed in wanted.items():
        if listed.size > LARGEST_FILE:
            raise FetchError(f"{repo}: {name} is larger than {LARGEST_FILE:,} bytes, or its size is unknown")
    total = sum(listed.size for listed in wanted.values())
    if total > MOST_BYTES:
        raise FetchError(f"{repo}: its submissions have {total:,} bytes, at most {MOST_BYTES:,} are read")


def _fetched(repo: str, revision: str, name: str, listed: Listed) -> Path:
    """Return a file in the hub's cache that has the listed hash; fetch it if it is not there."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repo, name, revision=revision, repo_type="dataset")
    path = Path(cached) if isinstance(cached, str) else None
    if path is None or not path.is_file():
        path = Path(
            _asked(repo, "dataset", lambda: hf_hub_download(repo, name, revision=revision, repo_type="dataset"))
        )
    if path.stat().st_size == listed.size and digest_of(path, listed.digest) == listed.digest:
        return path
    blob = path.resolve()
    path.unlink()
    blob.unlink(missing_ok=True)
    raise FetchError(
        f"{repo}: {name} has another size or hash than the hub says; the file is removed: run the same command again, "
        "and if it stays so, do not trust the source"
    )


def digest_of(path: Path, like: str) -> str:
    """Return the SHA-256 of a file, or the SHA-1 of its git blob if `like` has only 40 digits."""
    if len(like) == 64:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    sha = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _notes(repo: str, revision: str) -> Path:
    return default_cache_folder() / "hub" / repo.replace("/", "--") / f"{revision}.json"


def _note(repo: str, revision: str, listing: Mapping[str, Listed]) -> None:
    content = json.dumps({name: [listed.size, listed.digest] for name, listed in listing.items()}).encode()
    try:
        write_whole(_notes(repo, revision), content)
    except OSError as error:
        raise FetchError(f"{error.filename}: cannot be written ({error.strerror}); set PRUNINGBENCH_CACHE") from None


def _noted(repo: str, revision: str) -> dict[str, Listed] | None:
    """Return the listing of a commit as noted when it was fetched; None for a branch, or if there is none."""
    if not _COMMIT.fullmatch(revision):
        return None
    try:
        noted = parse_json(read_plain(_notes(repo, revision), most=1 << 22), "notes")
        return {str(name): Listed(int(size), str(digest)) for name, (size, digest) in noted.items()}
    except (OSError, DataError, ValueError, TypeError, AttributeError):
        return None
