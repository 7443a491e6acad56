"""Exact selection of the k lowest scores over many tensors, without sorting them.

A random sample of the scores gives two pivots that very likely enclose the threshold. One pass compares
all scores with the lower pivot and records the few that lie between the two; only those are examined
again. The sample affects the speed and nothing else: the result is exact for any scores.

Source: Floyd and Rivest, Expected time bounds for selection (1975).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pruningbench.errors import ScoreError

_SAMPLE = 1 << 16
"""Number of scores in the sample; up to this number, all scores are sorted instead."""
_CHUNK = 1 << 16
"""Scores per step on a CPU, few enough that they and their masks stay in its cache."""


def keep_highest(scores: Sequence[Tensor], prune: int) -> list[Tensor]:
    """Return masks that drop exactly the `prune` lowest scores of all tensors taken together.

    Among equal scores at the threshold, the first ones (tensor by tensor, row-major index) are kept, so
    the result does not depend on a sorting algorithm.

    Args:
        scores: float tensors of any shapes on one device; -0.0 equals 0.0.
        prune: how many to drop, 0 <= prune <= total number of scores.

    Returns:
        Bool tensors of the shapes of `scores`, True = kept.

    Raises:
        ValueError: if `prune` is out of range.
        ScoreError: for a NaN score.
    """
    flats = _flat_floats(scores)
    total = sum(flat.numel() for flat in flats)
    if not 0 <= prune <= total:
        raise ValueError(f"cannot prune {prune} of {total} weights")
    if any(_has_nan(flat) for flat in flats):
        raise ScoreError("scores contain NaN, which has no rank")
    if prune in (0, total):
        return [torch.full(s.shape, prune == 0, dtype=torch.bool, device=s.device) for s in scores]
    masks = _keep(flats, total - prune)
    return [mask.reshape(score.shape) for mask, score in zip(masks, scores, strict=True)]


def _keep(flats: Sequence[Tensor], keep: int) -> list[Tensor]:
    """Return masks of the `keep` highest values in all tensors; earlier values win ties."""
    sizes = [flat.numel() for flat in flats]
    total = sum(sizes)
    if total <= _SAMPLE:
        return list(torch.split(_keep_of_few(torch.cat(list(flats)), keep), sizes))
    low, high = _pivots(flats, 1 - keep / total)
    compared = [_compare(flat, low, high) for flat in flats]
    masks, between = [mask for mask, _ in compared], [places for _, places in compared]
    above, inside = _count(masks), sum(len(places) for places in between)
    if above - inside <= keep <= above:
        _settle(flats, masks, between, keep - (above - inside))
    elif keep > above:  # the threshold is the lower pivot, or lies below it
        _keep_first(flats, masks, low, keep - above)
        missing = keep - _count(masks)
        if missing:
            _settle(flats, masks, _places(flats, lambda chunk: chunk < low), missing)
    else:  # the threshold is the upper pivot, or lies above it
        masks = [flat > high for flat in flats]
        above = _count(masks)
        if above <= keep:
            _keep_first(flats, masks, high, keep - above)
        else:
            _settle(flats, masks, _places(flats, lambda chunk: chunk > high), keep)
    return masks


def _keep_of_few(values: Tensor, keep: int) -> Tensor:
    if keep == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    lowest_kept = float(_sorted(values)[-keep])
    mask = values > lowest_kept
    _keep_first([values], [mask], lowest_kept, keep - _count([mask]))
    return mask


def _settle(flats: Sequence[Tensor], masks: Sequence[Tensor], places: Sequence[Tensor], keep: int) -> None:
    """Decide again about the values at `places`: keep the `keep` highest of them, drop the others."""
    scores = [_gather(flat, places_in) for flat, places_in in zip(flats, places, strict=True)]
    for mask, places_in, kept in zip(masks, places, _keep(scores, keep), strict=True):
        if _on_cpu(mask):
            mask.numpy()[places_in.numpy()] = kept.numpy()
        else:
            mask[places_in] = kept


def _keep_first(flats: Sequence[Tensor], masks: Sequence[Tensor], value: float, count: int) -> None:
    """Keep the first `count` values equal to `value`, or all if there are fewer."""
    for mask, places in zip(masks, _places(flats, lambda chunk: chunk == value), strict=True):
        mask[places[:count]] = True
        count -= min(len(places), count)


def _pivots(flats: Sequence[Tensor], share: float) -> tuple[float, float]:
    """Return two of the values, four standard errors on either side of their `share` quantile."""
    total = sum(flat.numel() for flat in flats)
    generator = torch.Generator().manual_seed(total)
    parts = []
    for flat in flats:
        if flat.numel():
            size = (math.ceil(_SAMPLE * flat.numel() / total),)
            parts.append(_gather(flat, torch.randint(flat.numel(), size, generator=generator).to(flat.device)))
    sample = _sorted(torch.cat(parts))
    middle = share * len(sample)
    margin = 4 * math.sqrt(middle * (1 - share)) + 1
    low, high = max(int(middle - margin), 0), min(int(middle + margin), len(sample) - 1)
    return float(sample[low]), float(sample[high])


def _compare(flat: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return a mask of the values above `low`, and the places of those that are also below `high`."""
    if not _on_cpu(flat):
        mask = flat > low
        return mask, _nonzero((flat < high) & mask)
    values = flat.numpy()
    bounds = values.dtype.type(low), values.dtype.type(high)
    above = np.empty(values.shape, dtype=bool)
    inside = np.empty(_CHUNK, dtype=bool)
    places = [np.zeros(0, dtype=np.int64)]
    for start in range(0, values.size, _CHUNK):
        chunk = values[start : start + _CHUNK]
        greater = np.greater(chunk, bounds[0], out=above[start : start + _CHUNK])
        both = np.less(chunk, bounds[1], out=inside[: chunk.size])
        both &= greater
        places.append(both.nonzero()[0] + start)
    return torch.from_numpy(above), torch.from_numpy(np.concatenate(places))


def _places(flats: Sequence[Tensor], condition: Callable[[Tensor], Tensor]) -> list[Tensor]:
    return [_nonzero(condition(flat)) for flat in flats]


# On a CPU the steps below use NumPy: on one thread it is as fast as torch on two, and it does not slow down
# when other processes compete for the processor.


def _nonzero(mask: Tensor) -> Tensor:
    return torch.from_numpy(mask.numpy().nonzero()[0]) if _on_cpu(mask) else mask.nonzero().flatten()


def _count(masks: Sequence[Tensor]) -> int:
    return sum(int(np.count_nonzero(mask.numpy()) if _on_cpu(mask) else torch.count_nonzero(mask)) for mask in masks)


def _gather(flat: Tensor, places: Tensor) -> Tensor:
    return torch.from_numpy(flat.numpy()[places.numpy()]) if _on_cpu(flat) else flat[places]


def _sorted(values: Tensor) -> Tensor:
    return torch.from_numpy(np.sort(values.numpy())) if _on_cpu(values) else values.sort().values


def _has_nan(flat: Tensor) -> bool:
    """Whether there is a NaN: it would be the maximum."""
    return bool(flat.numel()) and math.isnan(flat.numpy().max() if _on_cpu(flat) else flat.max())


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _flat_floats(scores: Sequence[Tensor]) -> list[Tensor]:
    flats = [score.detach().flatten() for score in scores]
    dtype = torch.float64 if any(flat.dtype == torch.float64 for flat in flats) else torch.float32
    return [flat.to(dtype) for flat in flats]
