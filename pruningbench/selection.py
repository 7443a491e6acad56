"""Exact selection of the k lowest scores over many tensors, without sorting.

The threshold comes from radix histograms over an order-preserving integer view of the floats: 16 bits a
pass, and only the bucket that holds the k-th score goes on to the next pass. It is bit-exact, needs two
passes for float32 and little memory, where a sort of the concatenated scores needs them all at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 22


def keep_highest(scores: Sequence[Tensor], prune: int) -> list[Tensor]:
    """Return masks that drop exactly the `prune` lowest scores of all tensors taken together.

    Among equal scores at the threshold those that come first (tensor by tensor, row-major index) are
    kept, so the result does not depend on a sorting algorithm.

    Args:
        scores: float tensors of any shapes, one dtype and device; -0.0 equals 0.0.
        prune: how many to drop, 0 <= prune <= total number of scores.

    Returns:
        Bool tensors of the shapes of `scores`, True = kept.

    Raises:
        ValueError: for `prune` out of range or a NaN score.
    """
    flats = [_flat_float(score) for score in scores]
    total = sum(flat.numel() for flat in flats)
    if not 0 <= prune <= total:
        raise ValueError(f"cannot prune {prune} of {total} weights")
    if prune in (0, total):
        return [torch.full(s.shape, prune == 0, dtype=torch.bool, device=s.device) for s in scores]
    if any(bool(torch.isnan(flat).any()) for flat in flats):
        raise ValueError("scores contain NaN, which has no rank")
    threshold, below = _kth_lowest(flats, prune)
    keep_tied = sum(int((flat == threshold).sum()) for flat in flats) - (prune - below)
    masks = []
    for flat, score in zip(flats, scores, strict=True):
        mask = flat > threshold
        if keep_tied > 0:
            tied = (flat == threshold).nonzero().flatten()[:keep_tied]
            mask[tied] = True
            keep_tied -= len(tied)
        masks.append(mask.reshape(score.shape))
    return masks


def _flat_float(score: Tensor) -> Tensor:
    flat = score.detach().flatten()
    return flat if flat.dtype in (torch.float32, torch.float64) else flat.float()


def _kth_lowest(flats: Sequence[Tensor], k: int) -> tuple[Tensor, int]:
    """Return the k-th lowest value (k >= 1) and how many values lie strictly below it."""
    bits = 64 if flats[0].dtype == torch.float64 else 32
    chunks: list[Tensor] = [chunk for flat in flats for chunk in flat.split(_CHUNK)]
    below, prefix = 0, 0
    for shift in range(bits - 16, -1, -16):
        counts = torch.zeros(1 << 16, dtype=torch.int64, device=flats[0].device)
        for chunk in chunks:
            counts += torch.bincount(_digit(chunk, shift), minlength=1 << 16)
        cumulative = counts.cumsum(0)
        bucket = int(torch.searchsorted(cumulative, k - below))
        below += int(cumulative[bucket] - counts[bucket])
        prefix = (prefix << 16) | bucket
        chunks = [torch.cat([chunk[_digit(chunk, shift) == bucket] for chunk in chunks])]
    return chunks[0][0], below


def _digit(values: Tensor, shift: int) -> Tensor:
    """Return 16 bits of the order-preserving integer of each float, counted from bit `shift`."""
    integer = torch.int64 if values.dtype == torch.float64 else torch.int32
    raw = (values + 0.0).view(integer)  # + 0.0 turns -0.0 into 0.0
    # negative floats order backwards as integers: flip all their bits, and the sign bit of the others
    ordered = torch.where(raw < 0, ~raw, raw ^ torch.iinfo(integer).min)
    return (ordered >> shift) & 0xFFFF
