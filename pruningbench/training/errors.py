"""Errors of trainings."""

from __future__ import annotations

from pruningbench.errors import PruningBenchError


class TrainingError(PruningBenchError):
    """Training cannot start, has diverged, or has lost one of its processes."""

    page = "recipes"


class ExchangeError(TrainingError):
    """The processes of a training have lost contact with each other."""
