"""The entries of the cache folder: their kind, size, age and origin, read without torch."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

TENSORS = ".safetensors"
COPIES = "remote"
"""Folder of the working copies of runs at URLs: no entries of the cache, as they may hold what is nowhere else."""
_LARGEST_HEADER = 2**27


@dataclass(frozen=True)
class CacheEntry:
    """One entry of the cache.

    Attributes:
        kind: the folder that holds it: weights, scores, masks, trajectories, networks, images, downloads, ...
        files: its files.
        size: bytes on disk.
        made, used: when it was made and when it was last used, in seconds since 1970.
        origin: what it was made from, in one line; "" if the file does not say.
        kept: why it must not be removed; always "", because it can be made again.
    """

    kind: str
    files: tuple[Path, ...]
    size: int
    made: float
    used: float
    origin: str = ""
    kept: ClassVar[str] = ""

    @property
    def is_tensors(self) -> bool:
        """Whether it counts towards PRUNINGBENCH_TENSOR_CACHE: a file that `Cache` has made."""
        return self.files[0].suffix == TENSORS and self.files[0].match(f"{self.kind}/??/*")

    @property
    def is_images(self) -> bool:
        """Whether it counts towards PRUNINGBENCH_IMAGE_CACHE."""
        return self.kind == "images"

    def remove(self) -> bool:
        """Remove its files; files that are already gone are ignored."""
        for file in self.files:
            file.unlink(missing_ok=True)
        return True


def entries(folder: Path) -> list[CacheEntry]:
    """Return all entries of a cache folder, sorted by kind, the most recently used first."""
    listing = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.relative_to(folder).parts[0] == COPIES:
            continue
        if path.is_file() and not path.name.startswith(".") and not _belongs_to_another(path):
            try:
                listing.append(_entry(folder, path))
            except FileNotFoundError:
                continue  # another process is making room
    return sorted(listing, key=lambda entry: (entry.kind, -entry.used, entry.files))


def _belongs_to_another(path: Path) -> bool:
    return path.suffix == ".index" and path.with_suffix(".rows").exists()


def _entry(folder: Path, path: Path) -> CacheEntry:
    files = [path]
    if path.suffix == ".rows" and path.with_suffix(".index").exists():
        files.append(path.with_suffix(".index"))
    stats = [file.stat() for file in files]
    size = sum(s.st_blocks * 512 if path.suffix == ".rows" and hasattr(s, "st_blocks") else s.st_size for s in stats)
    used = max(s.st_mtime for s in stats)
    inside = path.relative_to(folder).parts
    kind = inside[0] if len(inside) > 1 else "other"
    made, origin = _notes(path) if path.suffix == TENSORS else (None, path.name)
    return CacheEntry(kind, tuple(files), size, stats[0].st_mtime if made is None else made, used, origin)


def header(path: Path) -> dict[str, str]:
    """Return the metadata of a file of tensors.

    Raises:
        ValueError: if it is not a file of tensors.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= _LARGEST_HEADER:
            raise ValueError("it is not a file of tensors")
        try:
            notes = json.loads(file.read(length)).get("__metadata__", {})
        except (ValueError, AttributeError, RecursionError) as error:
            raise ValueError("its header is damaged") from error
    return {str(key): str(value) for key, value in notes.items()}


def _notes(path: Path) -> tuple[float | None, str]:
    """Return when a file of tensors was made, if the file says so, and its origin."""
    try:
        notes = header(path)
        origin = describe(json.loads(notes.get("identity", "null")))
        return (float(notes["made"]) if "made" in notes else None), origin
    except (OSError, ValueError):
        return None, "damaged"


def describe(identity: Any) -> str:
    """Return the origin of a cache entry in one line: components with their fields, then everything else."""
    if not isinstance(identity, Mapping):
        return "" if identity is None else _value(identity)
    parts = [_component(value) for value in identity.values() if _is_component(value)]
    for name, value in identity.items():
        if name not in ("made of", "cache_version") and not _is_component(value) and value not in (None, {}, []):
            parts.append(f"{name} {_value(value)}")
    made_of = identity.get("made of")
    if isinstance(made_of, Mapping):
        parts += [f"{name} {_value(value)}" for name, value in made_of.items() if value and name != "preprocessing"]
    return " · ".join(parts)


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"use", "version", "fields"}


def _component(value: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{name}={_value(item)}" for name, item in value["fields"].items())
    return f"{value['use']}({fields})" if fields else str(value["use"])


def _value(value: Any) -> str:
    if _is_component(value):
        return _component(value)
    return value if isinstance(value, str) else json.dumps(value)


def problem(entry: CacheEntry) -> str | None:
    """Return what is wrong with an entry's content, or None; entries without a digest or checksum pass.

    Files of tensors are compared with their digest, and rows of images with their checksums.
    """
    path = entry.files[0]
    try:
        if path.suffix == TENSORS:
            return _tensors_problem(path)
        return _rows_problem(*entry.files) if path.suffix == ".rows" and len(entry.files) == 2 else None
    except (OSError, ValueError) as error:
        return str(error)


def _tensors_problem(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    from pruningbench.base.identity import tensors_digest

    notes = header(path)
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        return str(error)
    return None if notes.get("digest") == tensors_digest(stored) else "its content does not match its digest"


def _rows_problem(rows: Path, index: Path) -> str | None:
    damaged = sum(1 for _ in _damaged_rows(rows, index))
    return f"{damaged} of its rows do not match their checksums" if damaged else None


def _damaged_rows(rows: Path, index: Path) -> Iterator[int]:
    import sys

    content = index.read_bytes()
    count = len(content) // 8
    length = rows.stat().st_size // count if count else 0
    with rows.open("rb") as file:
        for place in range(count):
            entry = int.from_bytes(content[place * 8 : place * 8 + 8], sys.byteorder)
            if entry:
                file.seek(place * length)
                if zlib.crc32(file.read(length)) != entry >> 32:
                    yield place
