"""Maps of many images, made batch by batch when they are asked for, in memory or in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from tempfile import TemporaryFile
from typing import IO

import torch
from torch import Tensor


class MapStore:
    """The (H, W) float32 maps of N images.

    Maps that take more memory than they may are in a temporary file (in ``TMPDIR``), deleted with this object. It
    is read and written, and not mapped: mapped pages count as memory of the process.

    Args:
        explain: positions of images -> their (B, H, W) float32 maps on the CPU.
        count: number N of images.
        batch_size: images to explain at a time; batches begin at multiples of it, whatever is asked for first.
        memory: bytes that the maps may take in memory.
    """

    def __init__(self, explain: Callable[[Sequence[int]], Tensor], count: int, batch_size: int, memory: int) -> None:
        self._explain, self._count, self._batch, self._memory = explain, count, batch_size, memory
        self._maps: Tensor | None = None
        self._file: IO[bytes] | None = None
        self._shape = torch.Size()
        self._made: set[int] = set()

    def rows(self, index: Sequence[int]) -> Tensor:
        """Return the maps of some images, (len(index), H, W); those that are missing are made."""
        for number in sorted({position // self._batch for position in index} - self._made):
            start = number * self._batch
            self._write(start, self._explain(range(start, min(start + self._batch, self._count))).float())
            self._made.add(number)
        if self._maps is not None:
            return self._maps[list(index)]
        return torch.stack([self._read(position) for position in index])

    @property
    def on_disk(self) -> bool:
        """Whether the maps are in a file."""
        return self._file is not None

    def _write(self, start: int, maps: Tensor) -> None:
        if not self._shape:
            self._shape = maps.shape[1:]
            if self._count * self._size <= self._memory:
                self._maps = torch.empty(self._count, *self._shape)
            else:
                self._file = TemporaryFile(prefix="pruningbench-maps-")  # noqa: SIM115 - closed with this object
        if self._maps is not None:
            self._maps[start : start + len(maps)] = maps
        elif self._file is not None:
            self._file.seek(start * self._size)
            self._file.write(maps.contiguous().numpy().tobytes())

    def _read(self, position: int) -> Tensor:
        assert self._file is not None  # noqa: S101 - there is a file if the maps are not in memory
        self._file.seek(position * self._size)
        return torch.frombuffer(bytearray(self._file.read(self._size)), dtype=torch.float32).view(self._shape)

    @property
    def _size(self) -> int:
        """Bytes of a map."""
        return self._shape.numel() * 4
