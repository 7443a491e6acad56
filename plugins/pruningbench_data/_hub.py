"""Files on the hub: which a split has, which are on this machine, and how to fetch the rest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pruningbench.contract import DataError, FetchError, read_json, write_whole
from pruningbench.images.fetch import Progress, data_folder

T = TypeVar("T")
BLOCK = 1 << 20


def split_files(names: Sequence[str], split: str) -> list[str]:
    """Return the parquet files of a split: ``SPLIT.parquet``, ``SPLIT-*.parquet``, or those in a folder SPLIT."""
    pattern = re.compile(
        rf"(?:.*/)?{re.escape(split)}(?:[-_.][^/]*)?\.parquet|(?:.*/)?{re.escape(split)}/[^/]*\.parquet"
    )
    return sorted(name for name in names if pattern.fullmatch(name))


def local_files(repo: str, revision: str, split: str) -> list[Path] | None:
    """Return the split's files in the hub's cache, or None if any is missing, without network access."""
    from huggingface_hub import try_to_load_from_cache

    listing = _stored_listing(repo, revision)
    if listing is None:
        return None
    paths = [try_to_load_from_cache(repo, name, revision=revision, repo_type="dataset")
             for name in split_files(list(listing), split)]  # fmt: skip
    if not paths or not all(isinstance(path, str) and Path(path).exists() for path in paths):
        return None
    return [Path(str(path)) for path in paths]


def fetch_files(repo: str, revision: str, split: str, progress: Progress) -> None:
    """Fetch a split's files into the hub's cache, and check each against its published hash.

    Raises:
        FetchError: without network access, for an unknown data set, commit or split, or for a wrong hash.
    """
    listing = _stored_listing(repo, revision) or _ask_listing(repo, revision)
    names = split_files(list(listing), split)
    if not names:
        parquet_files = ", ".join(name for name in listing if name.endswith(".parquet")) or "none"
        raise FetchError(
            f"{repo}: has no parquet file of split {split!r} at {revision} (parquet files: {parquet_files})"
        )
    for place, name in enumerate(names):
        progress(repo, place, len(names))
        _check(repo, name, _download(repo, revision, name), listing[name])
    progress(repo, len(names), len(names))
    write_whole(_notes(repo, revision), json.dumps(listing).encode())


def _notes(repo: str, revision: str) -> Path:
    return data_folder() / "hub" / repo.replace("/", "--") / f"{revision}.json"


def _stored_listing(repo: str, revision: str) -> dict[str, str] | None:
    """Return the hash of each file of a commit, as recorded when it was fetched."""
    try:
        noted = read_json(_notes(repo, revision))
    except (OSError, DataError):
        return None
    if not isinstance(noted, dict) or not all(isinstance(value, str) for value in noted.values()):
        return None
    return noted


def _ask_listing(repo: str, revision: str) -> dict[str, str]:
    """Ask the hub for a commit's files, with the SHA-256 of large files and git's blob hash of small ones."""
    from huggingface_hub import HfApi

    def ask() -> dict[str, str]:
        info = HfApi().dataset_info(repo, revision=revision, files_metadata=True)
        return {str(file.rfilename): _published(file) for file in info.siblings or ()}

    return _call_hub(repo, revision, ask)


def _published(file: Any) -> str:
    return str(file.lfs.sha256 if file.lfs else file.blob_id)


def _download(repo: str, revision: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(_call_hub(repo, revision, lambda: hf_hub_download(repo, name, revision=revision, repo_type="dataset")))


def _call_hub(repo: str, revision: str, ask: Callable[[], T]) -> T:
    """Call the hub's client and turn its errors into one-line messages."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/datasets/{repo}"
    try:
        return ask()
    except GatedRepoError:
        raise FetchError(f"{repo}: needs an account: accept its terms at {page} and run `hf auth login`") from None
    except RepositoryNotFoundError:
        raise FetchError(f"{repo}: the hub has no such data set, or it is private ({page})") from None
    except RevisionNotFoundError:
        raise FetchError(
            f"{repo}: commit {revision} no longer exists; set `revision` to a commit of {page}/commits/main "
            "(results on it are not ranked with earlier ones)"
        ) from None
    except LocalEntryNotFoundError as error:
        raise FetchError(f"{repo}: {_unreachable(error)}") from None
    except EntryNotFoundError as error:
        raise FetchError(f"{repo}: a file is missing at {revision} ({_first(error)})") from None
    except OSError as error:
        if error.errno is not None:
            where = error.filename or "the hub's cache"
            raise FetchError(
                f"{repo}: {where} cannot be written ({error.strerror}); free some space, or set HF_HOME"
            ) from None
        raise FetchError(f"{repo}: {_unreachable(error)}") from None
    except Exception as error:  # noqa: BLE001 - errors of the client's HTTP library, which changes with its version
        raise FetchError(f"{repo}: {_unreachable(error)}") from None


def _unreachable(error: Exception) -> str:
    return f"the hub cannot be reached ({_first(error)}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE"


def _first(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _check(repo: str, name: str, path: Path, published: str) -> None:
    """Compare a file with its published hash; remove a wrong file from the hub's cache."""
    actual = _sha256(path) if len(published) == 64 else _git_blob(path)
    if actual == published:
        return
    blob = path.resolve()
    path.unlink()
    blob.unlink(missing_ok=True)
    raise FetchError(
        f"{repo}: wrong checksum of {name} (expected {published}, got {actual}); the file was removed: run the same "
        "command again; if this repeats, do not trust the source"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_blob(path: Path) -> str:
    """Return the SHA-1 with which git identifies a file's content."""
    sha = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()
