"""Maps of many images, made batch by batch when they are asked for, in memory or in a memory-mapped file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor


class MapStore:
    """The (H, W) float32 maps of N images.

    Maps that take more memory than they may are in a temporary file (in ``TMPDIR``), which is deleted with this object.

    Args:
        explain: positions of images -> their (B, H, W) float32 maps on the CPU.
        count: number N of images.
        batch_size: images to explain at a time; batches begin at multiples of it, whatever is asked for first.
        memory: bytes that the maps may take in memory.
    """

    def __init__(self, explain: Callable[[Sequence[int]], Tensor], count: int, batch_size: int, memory: int) -> None:
        self._explain, self._count, self._batch, self._memory = explain, count, batch_size, memory
        self._maps: Tensor | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._made: set[int] = set()

    def rows(self, index: Sequence[int]) -> Tensor:
        """Return the maps of some images, (len(index), H, W); those that are missing are made."""
        for number in sorted({position // self._batch for position in index} - self._made):
            start = number * self._batch
            maps = self._explain(range(start, min(start + self._batch, self._count)))
            if self._maps is None:
                self._maps = self._room(maps.shape[1:])
            self._maps[start : start + len(maps)] = maps
            self._made.add(number)
        if self._maps is None:
            raise ValueError("maps of no image")
        return self._maps[list(index)]

    @property
    def on_disk(self) -> bool:
        """Whether the maps are in a file."""
        return self._folder is not None

    def _room(self, shape: torch.Size) -> Tensor:
        if self._count * shape.numel() * 4 <= self._memory:
            return torch.empty(self._count, *shape)
        self._folder = TemporaryDirectory(prefix="pruningbench-maps-")
        file = Path(self._folder.name) / "maps"
        return torch.from_file(str(file), shared=True, size=self._count * shape.numel()).view(self._count, *shape)
