"""Per-sample values and exhibits: the arrays that a run stores beside its journal."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruningbench.base.files import not_plain, open_plain, write_whole
from pruningbench.contract.outputs import Exhibit

FURTHER = "array "
"""Prefix of the names of an exhibit's further arrays, so that they never clash with the core's own array names."""

Array = NDArray[Any]
LARGEST = 4 << 30
"""Largest unpacked size of a file of arrays, in bytes."""
_DAMAGE = (EOFError, KeyError, SyntaxError, RecursionError, OverflowError, zipfile.BadZipFile, zlib.error,
           NotImplementedError, MemoryError)  # fmt: skip
"""What NumPy and zipfile raise for a damaged .npz besides ValueError."""


def write_arrays(path: Path, arrays: Mapping[str, Array], *, durable: bool = True) -> None:
    """Write named arrays atomically as an .npz.

    Small files are not compressed, because compression would take longer than writing them.

    Args:
        path: the file.
        arrays: arrays by name.
        durable: also wait until they are on the disk, as the lines of a journal that rely on the file need it.
    """
    buffer = io.BytesIO()
    large = sum(array.nbytes for array in arrays.values()) > 1 << 18
    (np.savez_compressed if large else np.savez)(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue(), durable=durable)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read an .npz without unpickling anything.

    Raises:
        OSError, ValueError: if it is missing, is not a plain file, cannot be read, or is damaged in any way.
    """
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            stored = np.load(file, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise zipfile.BadZipFile("it is a single array, not an .npz")
            with stored:
                size = sum(part.file_size for part in stored.zip.infolist())
                if size > LARGEST:
                    raise zipfile.BadZipFile(f"it unpacks to {size} bytes")
                return {name: stored[name] for name in stored.files}
    except _DAMAGE as error:
        # the file is empty, incomplete or foreign; an EOFError would look like an interrupt
        raise ValueError(f"it is damaged ({error or type(error).__name__})") from error
    except ValueError as error:  # NumPy's message suggests unpickling, which is unsafe
        raise ValueError("it is damaged, or holds no arrays of numbers and text") from error


def is_damaged(path: Path) -> bool:
    """Whether a file of arrays is a link, incomplete, empty or not an .npz; a missing file is not damaged."""
    return os.path.lexists(path) and (not_plain(path) is not None or not zipfile.is_zipfile(path))


def write_exhibit(path: Path, exhibit: Exhibit) -> None:
    """Store an exhibit for the figures."""
    write_arrays(path, exhibit_arrays(exhibit))


def exhibit_arrays(exhibit: Exhibit) -> dict[str, Array]:
    """Return an exhibit as the named arrays that are stored."""
    arrays: dict[str, Array] = {
        "kind": np.array(exhibit.kind),
        "images": exhibit.images.detach().cpu().half().numpy(),  # intensities: half precision is enough for any screen
        "keys": np.array(exhibit.keys, dtype=str),
        "captions": np.array(exhibit.captions, dtype=str),
    }
    if exhibit.maps is not None:
        arrays["maps"] = exhibit.maps.detach().cpu().float().numpy()
    for name, boxes in (("predicted", exhibit.predicted), ("truth", exhibit.truth)):
        if boxes:
            arrays[name] = np.concatenate([b.detach().cpu().float().numpy().reshape(-1, 4) for b in boxes])
            arrays[f"{name}_counts"] = np.array([len(b) for b in boxes])
    arrays |= {f"{FURTHER}{name}": array.detach().cpu().numpy() for name, array in exhibit.arrays.items()}
    return arrays


def read_exhibit(path: Path) -> dict[str, Any]:
    """Read an exhibit as NumPy values.

    Returns:
        ``kind``; ``images`` (N, C, H, W) in [0, 1]; ``keys`` and ``captions``, tuples of text; for kind
        ``maps`` also ``maps`` (N, H, W); for kind ``boxes`` also ``predicted`` and ``truth``, N arrays
        (K, 4) each; ``arrays``, further arrays by name.
    """
    stored = read_arrays(path)
    exhibit: dict[str, Any] = {
        "kind": str(stored["kind"]),
        "images": stored["images"].astype(np.float32),
        "keys": tuple(map(str, stored["keys"])),
        "captions": tuple(map(str, stored["captions"])),
    }
    if "maps" in stored:
        exhibit["maps"] = stored["maps"]
    exhibit["arrays"] = {
        name.removeprefix(FURTHER): array for name, array in stored.items() if name.startswith(FURTHER)
    }
    for name in ("predicted", "truth"):
        if name in stored:
            exhibit[name] = _split(stored[name], stored[f"{name}_counts"])
    return exhibit


def _split(rows: Array, counts: Sequence[int] | Array) -> list[Array]:
    return np.split(rows, np.cumsum(counts)[:-1])
