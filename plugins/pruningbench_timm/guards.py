"""Limits on weight files, checked before a reader opens them and again on the tensors that it returns."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from pruningbench.contract import PruningBenchError, check_regular, one_line, open_file

MOST_TENSORS = 2**16
"""Maximum number of named tensors in a file; the largest networks have a few thousand."""
_END = 22
"""Bytes of the end record of a zip archive with nothing after it."""


def check_file(path: Path) -> None:
    """Refuse a file that would take more memory than its size, or make a reader run code.

    ``torch.save`` stores tensors uncompressed. A zip archive that unpacks to more than its size comes from another
    source: deflated zeros or overlapping members can expand a thousandfold.

    Raises:
        PruningBenchError: naming the file.
    """
    check_regular(path)
    with open_file(path) as file:
        start = file.read(tarfile.BLOCKSIZE)
        if start[:2] == b"PK":
            size = path.stat().st_size
            file.seek(max(0, size - _END))
            end = file.read()
            file.seek(0)
            if not end.startswith(b"PK\x05\x06"):  # readers differ in where they look for the end record
                raise damaged(path, "it does not end like a file of torch.save")
            try:
                with zipfile.ZipFile(file) as archive:
                    unpacked = sum(member.file_size for member in archive.infolist())
            except Exception as error:  # for a damaged archive, readers raise nearly anything
                raise damaged(path, error) from error
            if unpacked > size:
                raise PruningBenchError(
                    f"{path}: its {size:,} bytes unpack to {unpacked:,}, which torch.save never does; it is refused"
                )
            return
    with suppress(tarfile.TarError, ValueError):
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
        raise PruningBenchError(
            f"{path}: is a tar archive, the format before PyTorch 0.4, whose code some versions run "
            "(CVE-2025-32434); load it yourself and save `network.state_dict()`"
        )


def check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not plain arrays of numbers on the CPU, or that are larger than their file.

    Raises:
        PruningBenchError: naming file and tensor.
    """
    size = path.stat().st_size
    if len(state) > MOST_TENSORS:
        raise PruningBenchError(f"{path}: holds {len(state):,} tensors; networks have {MOST_TENSORS:,} at most")
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            kind = "quantised" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}"
            raise PruningBenchError(
                f"{path}: {name[:80]!r} is not a plain tensor ({kind}); save it as a dense tensor on the CPU"
            )
        if tensor.numel() * tensor.element_size() > size:
            raise PruningBenchError(
                f"{path}: {name[:80]!r} claims {tensor.numel():,} numbers, more than the file can hold"
            )


def damaged(path: Path, error: Exception | str) -> PruningBenchError:
    """Return the error for a file that a reader could not read."""
    reason = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
    return PruningBenchError(f"{path}: damaged, or not a weight file ({reason}); copy or download it again")
