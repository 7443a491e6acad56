"""Optimizers and learning rates of a training: torch's and timm's."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from pruningbench.pruning.stepping import Schedule
from pruningbench.training.settings import FitSettings

OURS = ("constant", "cosine", "step")
"""Schedules that are computed here; the others are timm's."""


def make_optimizer(network: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """Build the optimizer over the parameters that require gradients."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": settings.weight_decay * settings.decay_all},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    import timm.optim

    timms: Any = timm.optim
    filled = [group for group in groups if group["params"]]
    made: torch.optim.Optimizer = timms.create_optimizer_v2(
        filled, settings.optimizer, settings.lr, weight_decay=settings.weight_decay, momentum=settings.momentum
    )
    return made


def make_schedule(optimizer: torch.optim.Optimizer, settings: FitSettings, steps: int, done: int) -> Schedule:
    """Return the schedule of the learning rates, set to the rates of the next step.

    Args:
        optimizer: whose rates are set.
        settings: how to train.
        steps: number of steps of the whole training.
        done: number of these that count as done.
    """
    if settings.schedule not in OURS:
        return _TimmSchedule(optimizer, settings, steps, done)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(done + step, steps, settings))


def rate(step: int, steps: int, settings: FitSettings) -> float:
    """Return the factor that scales the peak learning rate at `step` of `steps`, for a schedule among `OURS`."""
    warm = settings.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(steps - warm, 1)
    if settings.schedule == "cosine":
        falling = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        floor = settings.min_lr / settings.lr
        return floor + (1 - floor) * falling if floor else falling
    if settings.schedule == "step" and settings.step_epochs:
        return float(0.1 ** (step * settings.epochs // steps // settings.step_epochs))
    if settings.schedule == "step":
        return float(0.1 ** int(progress * 3))
    return 1.0


class _TimmSchedule:
    """A schedule of timm's, moved on after each step."""

    def __init__(self, optimizer: torch.optim.Optimizer, settings: FitSettings, steps: int, done: int) -> None:
        import timm.scheduler

        timms: Any = timm.scheduler
        chosen = {"tanh": timms.TanhLRScheduler, "poly": timms.PolyLRScheduler}[settings.schedule]
        warm = min(round(settings.warmup * steps), steps - 1)
        self._done = done
        self._schedule = chosen(
            optimizer,
            t_initial=steps - warm,
            lr_min=settings.min_lr,
            warmup_t=warm,
            warmup_lr_init=settings.lr / (warm + 1) if warm else 0.0,
            warmup_prefix=True,
            t_in_epochs=False,
        )
        self._schedule.step_update(done)

    def step(self) -> None:
        """Set the rates of the next step."""
        self._done += 1
        self._schedule.step_update(self._done)
