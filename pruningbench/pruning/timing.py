"""Measured time and memory of a forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def measured_seconds(
    works: Sequence[Callable[[], object]], device: torch.device, repeats: int, warmup: int
) -> list[Tensor]:
    """Return the seconds that each work takes, timed in turns so that a busy moment affects all equally.

    Args:
        works: the functions to time; each runs on `device`.
        device: CUDA devices are timed by CUDA events, others by the clock.
        repeats: number of timed runs of each, >= 1.
        warmup: number of untimed runs of each before those.

    Returns:
        (repeats,) float64 per work.
    """
    seconds = torch.empty(len(works), repeats, dtype=torch.float64)
    for turn in range(-warmup, repeats):
        for i, work in enumerate(works):
            took = _seconds(work, device)
            if turn >= 0:
                seconds[i, turn] = took
    return list(seconds)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        work()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1000
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_memory(network: nn.Module, work: Callable[[], object], device: torch.device) -> int | None:
    """Return the peak memory in bytes of a network and of ``work()``, a pass through it.

    Returns:
        None on devices other than CUDA, whose allocators do not report it.
    """
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    network_bytes = sum(
        tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers())
    )
    return network_bytes + torch.cuda.max_memory_allocated(device) - before
