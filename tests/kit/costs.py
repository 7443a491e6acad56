"""Outlines of networks, and what a pruning takes, for tests of estimates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pruningbench.contract import Outline, Pruner
from pruningbench.plugins import load_registry
from pruningbench.suite.binding import bind
from pruningbench.suite.outlines import outline


def component(name: str, **fields: object) -> Pruner:
    found = bind(load_registry(), "pruner", {"use": name, **fields}).component
    assert isinstance(found, Pruner)
    return found


def of(net: nn.Module, **values: Any) -> Outline:
    found = outline(net, None, device=torch.device("cpu"))
    assert found is not None
    return replace(found, **{"batch_size": 16, "sparsity": 0.5, **values})


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the peak of what torch allocates on the CPU during `work`, less what was there before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
