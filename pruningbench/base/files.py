"""Paths as users write them, and files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from pruningbench.errors import UsageError


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading ``~`` or ``~user`` replaced.

    Raises:
        UsageError: if there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{os.fspath(path)}: {str(error).rstrip('.').lower()}") from None


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader, or a kill at any moment, finds the old content or the new one.

    Args:
        path: the file; its folder is made if need be.
        content: all of it.
        durable: also wait until it is on the disk, to survive a power cut.

    Raises:
        OSError: as the file system says; nothing half-written stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def default_cache_folder() -> Path:
    """Return ``$PRUNINGBENCH_CACHE``, or the user's cache folder of this platform."""
    named = os.environ.get("PRUNINGBENCH_CACHE")
    if named:
        return expanded(named)
    from platformdirs import user_cache_path

    return user_cache_path("pruningbench", appauthor=False)
