"""A content-addressed cache of tensors on disk: trained weights and scores outlive the run."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruningbench.base.files import default_cache_folder, write_whole
from pruningbench.base.identity import canonical_json, content_hash, tensors_digest

if TYPE_CHECKING:
    from torch import Tensor

_ROOM = re.compile(r"[a-z0-9-]+")


class Cache:
    """Named tensors under the hash of their identity.

    Files are written beside their place and moved there, so a reader sees a whole file or none, and
    two processes may fill the cache at once. The identity is stored in the file and compared when it
    is read. A damaged file is made again. A folder that cannot be written costs time, not results: a
    warning says so once.

    Args:
        folder: root of the cache; None for `default_cache_folder()`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_cache_folder()
        self._writable = True

    def path(self, room: str, identity: Any) -> Path:
        """Return the file for `identity` in `room` (weights, scores)."""
        if not _ROOM.fullmatch(room):
            raise ValueError(f"cache room {room!r} must be lower-case letters, digits and '-'")
        key = content_hash(identity, length=32)
        return self.folder / room / key[:2] / f"{key}.safetensors"

    def tensors(self, room: str, identity: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors stored under `identity`, or make, store and return them.

        What is returned is always what a reader of the file gets (on the CPU, contiguous), so the
        first run and later ones compute with the same bits.
        """
        path = self.path(room, identity)
        found = self._read(path, identity)
        if found is not None:
            return found
        made = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in make().items()}
        self._write(path, identity, made)
        return made

    def _read(self, path: Path, identity: Any) -> dict[str, Tensor] | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                meta = file.metadata() or {}
                if meta.get("identity") != canonical_json(identity):
                    return None
                # cloned: memory of the file is not aligned, which may change the order of sums
                found = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
            if tensors_digest(found) == meta.get("digest"):
                return found
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
            meta = {"identity": canonical_json(identity), "digest": tensors_digest(tensors)}
            write_whole(path, save(tensors, meta))
        except OSError as error:
            self._writable = False
            warnings.warn(
                f"cache {self.folder} cannot be written ({error.strerror}); weights and scores will be made "
                "again next time (set PRUNINGBENCH_CACHE to another folder)",
                stacklevel=3,
            )
