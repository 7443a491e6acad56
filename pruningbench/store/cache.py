"""A content-addressed cache of tensors on disk: trained weights and scores outlive the run.

All rooms together hold at most ``PRUNINGBENCH_TENSOR_CACHE`` GiB (20 by default, 0 keeps nothing); the least recently
used file is evicted first. A file stores when it was made. Its modification time says when it was last used, because
any read can change the access time.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.files import default_cache_folder, write_whole
from pruningbench.base.identity import canonical_json, content_hash, tensors_digest
from pruningbench.base.limits import size_limit
from pruningbench.store.locks import only_process

if TYPE_CHECKING:
    from torch import Tensor

_ROOM = re.compile(r"[a-z0-9-]+")


def budget() -> int:
    """Return how many bytes all cached tensors may take.

    Raises:
        UsageError: if PRUNINGBENCH_TENSOR_CACHE is not a number >= 0.
    """
    return size_limit("PRUNINGBENCH_TENSOR_CACHE")


class Cache:
    """Stores named tensors under the hash of their identity.

    A file is written under a temporary name and then moved into place, so a reader sees a whole file or none. If
    several processes need the same tensors, one makes them and the others wait. The identity is stored in the file
    and compared when the file is read. A damaged file is made again. If the folder is not writable, work is repeated
    but no result changes, and one warning says so.

    Args:
        folder: root of the cache; None for `default_cache_folder()`.
        note: receives a note every few seconds while another process makes what is needed here.
    """

    def __init__(self, folder: Path | None = None, note: Callable[[str], None] = lambda _message: None) -> None:
        self.folder, self._note = folder or default_cache_folder(), note
        self._writable, self._budget = True, budget()
        self._bytes_used: int | None = None  # bytes in use, as far as this process knows

    def path(self, room: str, identity: Any) -> Path:
        """Return the file for `identity` in `room` (weights, scores)."""
        if not _ROOM.fullmatch(room):
            raise ValueError(f"cache room {room!r} must be lower-case letters, digits and '-'")
        key = content_hash(identity, length=32)
        return self.folder / room / key[:2] / f"{key}.safetensors"

    def tensors(self, room: str, identity: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors stored under `identity`, or make, store and return them.

        The returned tensors are always the same as those read from the file (on the CPU, contiguous), so the
        first run and later runs compute with the same bits.
        """
        path = self.path(room, identity)
        before = _version(path)
        stored = self.find(room, identity)
        if stored is not None:
            return stored
        if not self._writable or not self._budget:  # nothing to wait for
            return self._made(room, identity, make)
        waiting = f"waiting for another process that makes the same {room}"
        with only_process(path.with_name(f".{path.stem}.lock"), lambda: self._note(waiting)):
            stored = self.find(room, identity) if _version(path) != before else None
            return self._made(room, identity, make) if stored is None else stored

    def _made(self, room: str, identity: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        computed = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in make().items()}
        self._write(self.path(room, identity), identity, computed)
        return computed

    def find(self, room: str, identity: Any) -> dict[str, Tensor] | None:
        """Return the tensors stored under `identity`, or None; a hit counts as a use."""
        path = self.path(room, identity)
        stored = self._read(path, identity)
        if stored is not None:
            with suppress(OSError):
                os.utime(path)
        return stored

    def forget(self, room: str, identity: Any) -> None:
        """Remove the tensors stored under `identity`, if there are any."""
        with suppress(OSError):
            self.path(room, identity).unlink(missing_ok=True)

    def _read(self, path: Path, identity: Any) -> dict[str, Tensor] | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                meta = file.metadata() or {}
                if meta.get("identity") != canonical_json(identity):
                    return None
                # cloned because the file's memory is not aligned, which can change the order of summation
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
            if tensors_digest(tensors) == meta.get("digest"):
                return tensors
            warnings.warn(f"{path}: damaged cache file is made again (wrong digest)", stacklevel=3)
            return None
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError) as error:
            warnings.warn(f"{path}: damaged cache file is made again ({error})", stacklevel=3)
            return None

    def _write(self, path: Path, identity: Any, tensors: dict[str, Tensor]) -> None:
        from safetensors.torch import save

        if not self._writable:
            return
        try:
            made = f"{time.time():.0f}"
            meta = {"identity": canonical_json(identity), "digest": tensors_digest(tensors), "made": made}
            content = save(tensors, meta)
            if len(content) > self._budget:
                return
            self._make_room(len(content))
            write_whole(path, content)
        except OSError as error:
            self._writable = False
            warnings.warn(
                f"cache {self.folder} cannot be written ({error.strerror}); weights and scores will be made "
                "again next time (set PRUNINGBENCH_CACHE to another folder)",
                stacklevel=3,
            )

    def _make_room(self, needed: int) -> None:
        """Remove the least recently used files until one of `needed` bytes fits."""
        if self._bytes_used is not None and self._bytes_used + needed <= self._budget:
            self._bytes_used += needed
            return
        files = []
        for path in self.folder.glob("*/??/*.safetensors"):
            with suppress(FileNotFoundError):  # another process is making room, too
                stat = path.stat()
                files.append((stat.st_mtime_ns, path.name, stat.st_size, path))
        self._bytes_used = sum(size for _, _, size, _ in files)
        for _, _, size, path in sorted(files):
            if self._bytes_used + needed <= self._budget:
                break
            path.unlink(missing_ok=True)
            self._bytes_used -= size
        self._bytes_used += needed


def _version(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from one that replaces it; None if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
