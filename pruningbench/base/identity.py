"""Identity of values: canonical JSON, content hashes, and seeds derived from them.

Two things are the same exactly if their canonical JSON is the same. Keys of cells, of cached weights and of
masks are hashes of it, and every random stream takes its seed from it, so that a result depends on what
was asked for and not on the order in which it was computed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

JSON = Any
"""A value built from None, bool, int, float, str, lists and string-keyed mappings."""


def canonical_json(value: JSON) -> str:
    """Return the canonical JSON text of `value`: sorted keys, no spaces, shortest floats.

    Integral floats are written as floats (``1.0``), tuples as lists.

    Raises:
        TypeError: for a value that JSON cannot hold.
        ValueError: for NaN or infinity, which are equal to nothing.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _plain(value: JSON) -> JSON:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be part of an identity: numbers must be finite")
        return value + 0.0  # -0.0 and 0.0 are the same setting
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys of an identity must be strings, got {list(value)!r}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be part of an identity")


def text_hash(text: str, *, length: int = 16) -> str:
    """Return the first `length` hex digits of the SHA-256 of a canonical JSON text."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def content_hash(value: JSON, *, length: int = 16) -> str:
    """Return the first `length` hex digits of the SHA-256 of the canonical JSON of `value`."""
    return text_hash(canonical_json(value), length=length)


def derive_seed(*parts: JSON) -> int:
    """Return a seed in [0, 2**63) that depends on `parts` and on nothing else."""
    digest = hashlib.sha256(canonical_json(list(parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors on any device: names, shapes, types and bits, as 64 hex digits."""
    import torch

    sha = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        sha.update(f"{name} {tuple(tensors[name].shape)} {flat.dtype}".encode())
        sha.update(flat.view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
