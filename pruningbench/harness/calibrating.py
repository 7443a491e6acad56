"""Measures a plan on few samples for about a minute, to say how long all of it will take.

One cell of each kind runs on two small numbers of samples: a dense cell of each model with all tasks, a cell of each
recipe, and one of each pruner. A straight line through the two times gives the time of all samples.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pruningbench.base.machine import resolve_device
from pruningbench.contract import Context, Dataset, Pruner, Recipe, Use
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.harness.shelves import DataShelf
from pruningbench.plugins import Registry
from pruningbench.store.cache import Cache
from pruningbench.store.journal import read_journal
from pruningbench.store.records import Record
from pruningbench.suite.cells import Cell, TaskRun
from pruningbench.suite.plan import Plan, make_plan

FEW, MORE = 16, 48
"""Numbers of samples of each data set: the first also pays for what happens once, such as choosing kernels."""
SECONDS = 60.0
"""Time for all of it; what is not reached is estimated from what was."""

Kind = tuple[str, str, str]


@dataclass(frozen=True)
class _Sizes:
    """Numbers of samples, by the canonical spelling of the data set."""

    of: Mapping[str, int]

    def of_task(self, run: TaskRun, limit: int | None) -> int:
        """Return the samples that a task reads, of each data set at most `limit`."""
        return self._sum((use for use in _with_references(run.task) if isinstance(use.component, Dataset)), limit)

    def of_preparing(self, cell: Cell, samples: int | None, limit: int | None) -> int:
        """Return the samples that pruning and training read; `samples` of them for the scores, None for all."""
        if cell.data is None:
            return 0
        whole = self._sum([cell.data], limit)
        trains = isinstance(cell.recipe.component, Recipe) and cell.recipe.component.needs_data()
        scores = (
            cell.pruner is not None and isinstance(cell.pruner.component, Pruner) and cell.pruner.component.needs_data
        )
        return (whole if trains else 0) + (min(whole, whole if samples is None else samples) if scores else 0)

    def _sum(self, uses: Iterable[Use], limit: int | None) -> int:
        sizes = [self.of.get(use.canonical(), 0) for use in uses]
        return sum(size if limit is None else min(size, limit) for size in sizes)


def calibrate(plan: Plan, registry: Registry, device: str, seconds: float = SECONDS) -> list[Record]:
    """Measure a plan on few samples, and return records with the times that all samples are expected to take.

    Nothing is written but temporary files; the cache is neither read nor filled.

    Args:
        plan: the plan, whose data and weights are there.
        registry: where components are looked up.
        device: as given to ``--device``.
        seconds: when to stop.

    Raises:
        UsageError: if data are missing, or there is no such device.
    """
    end, measured = time.monotonic() + seconds, dict[int, dict[tuple[Kind, float, str], Record]]()
    kinds = {_kind(cell) for cell in plan.cells}
    # on a GPU the first cells also load its kernels: they are measured twice, and the second time counts
    limits = (FEW, FEW, MORE) if resolve_device(device).type == "cuda" else (FEW, MORE)
    steps = [(dense, limit) for dense in (True, False) for limit in limits]
    with tempfile.TemporaryDirectory(prefix="pruningbench-calibration-") as place:
        for number, (dense, limit) in enumerate(steps):
            left = (end - time.monotonic()) / (len(steps) - number)
            small = make_plan(replace(plan.suite, limit=limit), registry)
            only = [f"cell={c.key}" for c in representatives(small, kinds) if (c.pruner is None) == dense]
            if left <= 0 or not only:
                continue
            options = RunOptions(device=device, only=tuple(only), no_cache=True, budget=left)
            folder = Path(place) / f"{number}"
            execute(prepare(small.suite, registry, folder, options), registry)
            found = {_what(record): record for record in _first_lines(folder / "results.jsonl")}
            measured[limit] = {**measured.get(limit, {}), **found}
    return list(_extrapolated(plan, measured, _sizes(plan, registry)))


def representatives(plan: Plan, kinds: set[Kind]) -> list[Cell]:
    """Return one cell of each kind that tells something new: each model, each of its recipes, each of its pruners.

    Args:
        plan: the plan on few samples.
        kinds: kinds of the cells that will run.
    """
    cells = [cell for cell in plan.cells if _kind(cell) in kinds]
    chosen: dict[tuple[str, str, str], Cell] = {}
    sparsities = sorted({cell.sparsity for cell in cells if cell.pruner is not None})
    middle = sparsities[len(sparsities) // 2] if sparsities else 0.0
    for cell in sorted(cells, key=lambda cell: (cell.trained, abs(cell.sparsity - middle))):
        model = cell.model.label
        if cell.pruner is None:
            chosen.setdefault((model, "dense", cell.recipe.label if cell.changes_dense else ""), cell)
        else:
            chosen.setdefault((model, "pruner", cell.pruner_label), cell)
            chosen.setdefault((model, "recipe", cell.recipe.label), cell)
    keys = {cell.key for cell in chosen.values()}
    return [cell for cell in plan.cells if cell.key in keys]


def _extrapolated(
    plan: Plan, measured: Mapping[int, Mapping[tuple[Kind, float, str], Record]], sizes: _Sizes
) -> Iterator[Record]:
    """Yield the records on few samples, with the times that all samples are expected to take."""
    cells = {(_kind(cell), cell.sparsity): cell for cell in plan.cells}
    runs = {run.label.partition("-limit-")[0]: run for run in plan.tasks} | {run.label: run for run in plan.tasks}
    needed = {pair: estimate.cost for pair, estimate in plan.costs().items()}
    for what, record in measured.get(FEW, {}).items():
        cell, run, more = cells.get(what[:2]), runs.get(record.task), measured.get(MORE, {}).get(what)
        if cell is None or run is None:
            continue
        cost = needed.get((record.model, record.pruner))
        samples = cost.samples if cost is not None else None
        yield replace(
            record,
            seconds=_line(
                record.seconds, more.seconds if more else None, *(sizes.of_task(run, n) for n in (FEW, MORE, None))
            ),
            prepare_seconds=_line(
                record.prepare_seconds,
                more.prepare_seconds if more else None,
                *(sizes.of_preparing(cell, samples, n) for n in (FEW, MORE, None)),
            ),
        )


def _line(few: float, more: float | None, x_few: int, x_more: int, x_all: int) -> float:
    """Return the time of `x_all` samples on the line through two measured ones; through the origin if there is one."""
    if x_all <= x_few or not x_few:
        return few
    if more is None or x_more <= x_few:
        return few * x_all / x_few
    slope = max(more - few, 0.0) / (x_more - x_few)
    return max(few, few + slope * (x_all - x_few))


def _sizes(plan: Plan, registry: Registry) -> _Sizes:
    shelf = DataShelf(registry, lambda: Context(torch.device("cpu"), 0, Cache(), shelf), plan.suite.limit or 0)
    return _Sizes({use.canonical(): len(shelf.open(use)) for use in plan.datasets().values()})


def _with_references(use: Use) -> Iterator[Use]:
    yield use
    for other in use.references.values():
        yield from _with_references(other)


def _first_lines(journal: Path) -> list[Record]:
    return [record for record in read_journal(journal)[0] if record.status == "ok" and record.part == 1]


def _kind(cell: Cell) -> Kind:
    return cell.model.label, cell.pruner_label, cell.recipe.label


def _what(record: Record) -> tuple[Kind, float, str]:
    return (record.model, record.pruner, record.recipe), record.sparsity, record.task
