"""How the samples of a batch are shared among processes, and the gradients of one process's share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

LEAST = 2
"""Samples of a part of a batch that each process must get; batch norm cannot train on one."""


@dataclass(frozen=True)
class Piece:
    """Samples that one process passes through the network at once.

    Attributes:
        start, stop: their positions in the batch.
        shared: whether the other processes pass pieces of the same part at the same time; if not, this process has
            the whole part, because it is small.
    """

    start: int
    stop: int
    shared: bool

    def __len__(self) -> int:
        return self.stop - self.start


def share_out(count: int, parts: int, processes: int) -> list[list[Piece]]:
    """Cut a batch into parts, and each part into a piece for each process.

    The parts are those of ``Tensor.chunk``. Pieces of one part differ by at most one sample, and follow each other. A
    part with fewer than `LEAST` samples for each process is the first process's alone.

    Args:
        count: samples in the batch, >= 1.
        parts: parts of the batch whose gradients are summed one after the other, >= 1.
        processes: number of processes, >= 1.

    Returns:
        For each process its pieces, in the order of the parts.
    """
    size = -(-count // parts)
    shares: list[list[Piece]] = [[] for _ in range(processes)]
    for start in range(0, count, size):
        stop = min(start + size, count)
        if stop - start < LEAST * processes:
            shares[0].append(Piece(start, stop, shared=False))
            continue
        cuts = [start + (stop - start) * rank // processes for rank in range(processes + 1)]
        for share, first, last in zip(shares, cuts, cuts[1:], strict=False):
            share.append(Piece(first, last, shared=True))
    return shares


def descend(
    images: Tensor,
    labels: Tensor,
    pieces: Iterable[Piece],
    count: int,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    together: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """Add the gradients of some pieces of a batch to those of the weights.

    Args:
        images: (B, C, H, W), of which `pieces` name the positions.
        labels: (B,) or (B, classes).
        pieces: the samples to pass through the network, one piece after the other.
        count: samples in the whole batch.
        loss_of: maps images and labels to their mean loss.
        together: makes the region in which pieces that are shared are passed through the network.

    Returns:
        The pieces' part of the mean loss of the whole batch, a scalar without gradients.
    """
    total = images.new_zeros(())
    for piece in pieces:
        with together() if piece.shared else nullcontext():
            loss = loss_of(images[piece.start : piece.stop], labels[piece.start : piece.stop]) * (len(piece) / count)
            loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    return total
