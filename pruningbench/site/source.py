"""What the pages of a site are made from: runs, their results, boards, and the installed components."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pruningbench.contract.findings import SweetSpot
from pruningbench.leaderboard.board import build
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.rows import Board
from pruningbench.leaderboard.sweetspots import sweet_spots
from pruningbench.plugins import Registry, load_registry
from pruningbench.store.origins import Origin, origins
from pruningbench.store.table import whole_characters

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Source:
    """What the pages are made from; nothing of it is changed.

    Attributes:
        origins: the readable run folders behind the sources, in order.
        results: `load_results` of the sources with details.
        boards: the boards of the results, those that compare the most pruners and recipes on one model first.
        registry: the installed components.
        title: name of the site.
    """

    origins: tuple[Origin, ...]
    results: pd.DataFrame
    boards: tuple[Board, ...]
    registry: Registry
    title: str

    @cached_property
    def spots(self) -> tuple[tuple[SweetSpot, ...], ...]:
        """Sweet spots of each board."""
        return tuple(map(sweet_spots, self.boards))

    @cached_property
    def runs(self) -> tuple[Path, ...]:
        """The run folders, in the order of `origins`; that of a submission lies in the cache."""
        return tuple(origin.folder for origin in self.origins)

    @cached_property
    def run_names(self) -> tuple[str, ...]:
        """Name of each run as the results spell it, in the order of `runs`."""
        return tuple(whole_characters(origin.run) for origin in self.origins)


def load_source(
    runs: Sequence[str | os.PathLike[str]], *, title: str | None = None, registry: Registry | None = None
) -> Source:
    """Read runs and make their boards.

    Args:
        runs: run folders, submissions, or other sources (`pruningbench.store.origins`).
        title: name of the site; by default the names of the suites.
        registry: the installed plugins by default.

    Raises:
        UsageError: if a source is not a run folder, is not a submission, or is damaged.
    """
    registry = registry or load_registry()
    opened = origins(runs)
    results = load_results(runs, details=True)
    made = build(results, runs, registry=registry)
    boards = tuple(sorted(made, key=_compared, reverse=True))
    suites = dict.fromkeys(suite for board in boards for suite in board.suites)
    return Source(opened, results, boards, registry, title or " + ".join(suites) or "pruningbench")


def _compared(board: Board) -> int:
    """Return how many pruners and recipes a board compares on one model, at most."""
    options: dict[str, set[tuple[str, str]]] = {}
    for row in board.rows:
        if not row.dense:
            options.setdefault(row.model, set()).add((row.pruner, row.recipe))
    return max(map(len, options.values()), default=0)
