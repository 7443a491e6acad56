"""Plans: turn a suite into cells with stable keys, and say what work they share and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract.component import Use
from pruningbench.contract.dataset import Dataset
from pruningbench.contract.model import Model
from pruningbench.contract.pruner import Pruner, ScorePruner
from pruningbench.contract.recipe import Recipe
from pruningbench.contract.task import Task
from pruningbench.errors import UsageError
from pruningbench.plugins import Registry
from pruningbench.suite.beside import is_for
from pruningbench.suite.binding import bind, data_of_model
from pruningbench.suite.cells import Cell, TaskRun, pruned_as, pruner_of, recipe_of, scored_as, trainings_of
from pruningbench.suite.dense import untrained
from pruningbench.suite.estimates import CostEstimate, estimate, skeleton_of
from pruningbench.suite.filters import is_selected, parse_filters
from pruningbench.suite.labels import with_distinguishing_fields
from pruningbench.suite.schema import Suite

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Plan:
    """All cells of a suite, in the order that shares the most work, and the tasks for each."""

    suite: Suite
    cells: tuple[Cell, ...]
    tasks: tuple[TaskRun, ...]

    def shared_work(self) -> dict[str, int]:
        """Count how often each kind of work is done, and how many cells it serves."""
        pruned = [cell for cell in self.cells if cell.pruner is not None]
        at_once = [cell for cell in pruned if recipe_of(cell).prunes_dense()]
        scored = [cell for cell in at_once if isinstance(pruner_of(cell), ScorePruner)]
        return {
            "model_loads": len({cell.model.canonical() for cell in self.cells}),
            "scoring_passes": len({scored_as(cell) for cell in scored}),
            "scored_once": len(scored),
            "prunings": len({pruned_as(cell) for cell in at_once}),
            "pruned_once": len(at_once),
            "trainings": len({key for cell in self.cells for key in trainings_of(cell)}),
            "trained": sum(cell.trained for cell in self.cells),
            "cells": len(self.cells),
            "task_runs": self.task_runs(),
        }

    def tasks_of(self, cell: Cell) -> tuple[TaskRun, ...]:
        """Return the tasks that apply to the model of a cell."""
        return tuple(run for run in self.tasks if is_for(run.task, cell.model))

    def task_runs(self) -> int:
        """Count the tasks of all cells."""
        return sum(len(self.tasks_of(cell)) for cell in self.cells)

    def costs(
        self, device: str | torch.device = "auto", cells: Sequence[Cell] | None = None
    ) -> dict[tuple[str, str], CostEstimate]:
        """Estimate the cost of each pruner on each model, and say which pairs cannot work.

        Only the models' skeletons are built; no weights or data are loaded.

        Args:
            device: where it would run, as given to ``--device``, or as an executor resolved it for other machines.
            cells: cells of this plan; all of them by default.

        Returns:
            (label of the model, label of the pruner) -> the estimate, at the largest sparsity of the pair.

        Raises:
            UsageError: if the scope does not fit a model, or there is no such device.
        """
        pairs: dict[tuple[str, str], Cell] = {}
        for cell in self.cells if cells is None else cells:
            pair = (cell.model.label, cell.pruner_label)
            if cell.pruner is not None and (pair not in pairs or cell.sparsity > pairs[pair].sparsity):
                pairs[pair] = cell
        skeletons: dict[str, nn.Module | str] = {}
        estimates = {}
        for pair, cell in pairs.items():
            assert cell.pruner is not None  # noqa: S101 - the dense model is in no pair
            if pair[0] not in skeletons:
                skeletons[pair[0]] = skeleton_of(cell.model)
            skeleton = skeletons[pair[0]]
            estimates[pair] = estimate(
                cell.model, skeleton, cell.pruner, cell.scope, cell.sparsity, device, cell.batch_size
            )
        return estimates

    def refusals(self, costs: Mapping[tuple[str, str], CostEstimate]) -> dict[str, str]:
        """Return the cells that cannot be made, by key, each with the reason in one line.

        Args:
            costs: what `costs` returned; pairs that are not in it are not refused, unless the pruner cannot reach
                a cell's sparsity on any network or the recipe refuses the pruner.
        """
        refused = {}
        for cell in self.cells:
            pruner, estimate = pruner_of(cell), costs.get((cell.model.label, cell.pruner_label))
            if estimate is not None and estimate.refusal:
                refused[cell.key] = estimate.refusal
            elif isinstance(pruner, Pruner):
                reason = pruner.unreachable(cell.sparsity) or recipe_of(cell).refuses(pruner)
                if reason:
                    refused[cell.key] = f"pruner {cell.pruner_label!r}: {reason}"
        return refused

    def missing(self) -> list[str]:
        """Return what must be fetched before the plan can run, and how."""
        return self._lacking(fetched=False)

    def fetched_when_run(self) -> list[str]:
        """Return which missing weights are downloaded when they are first used."""
        return self._lacking(fetched=True)

    def runs(self) -> list[str]:
        """Return which user code outside any plugin is executed when costs are estimated or the plan runs."""
        unique: dict[str, None] = {}
        for use in self._components():
            code = use.component.runs() if isinstance(use.component, Model) else None
            if code:
                unique.setdefault(f"{code} (model {use.label})")
        return list(unique)

    def datasets(self) -> dict[str, Use]:
        """Return the data sets that cells, tasks and models name, each once, by label and in its order."""
        unique = {use.canonical(): use for use in self._components() if isinstance(use.component, Dataset)}
        named = {use.label: use for use in with_distinguishing_fields(tuple(unique.values()))}
        return {label: named[label] for label in sorted(named)}

    def _lacking(self, *, fetched: bool) -> list[str]:
        lines: dict[str, None] = {}
        for use in self._components():
            component = use.component
            if isinstance(component, (Dataset, Model)):
                lack = component.missing()
                if lack and (isinstance(component, Model) and component.load_fetches()) == fetched:
                    lines.setdefault(f"{component.kind} {use.label}: {lack}")
        return list(lines)

    def _components(self) -> Iterable[Use]:
        of_cells = [*(cell.model for cell in self.cells), *(cell.data for cell in self.cells if cell.data is not None)]
        uses = [*{id(use): use for use in of_cells}.values(), *(run.task for run in self.tasks)]
        while uses:
            use = uses.pop()
            uses.extend(use.references.values())
            yield use


def make_plan(suite: Suite, registry: Registry, only: Sequence[str] = (), without: Sequence[str] = ()) -> Plan:
    """Lay out the cells of a suite.

    For each model and seed there is one dense cell as loaded, and one for each recipe that trains or recalibrates, so
    that pruned networks are compared with a dense network that was treated alike. Cells are ordered so that those of
    one model, and then of one pruner and seed, follow each other.

    Args:
        suite: the validated suite.
        registry: where metrics are looked up.
        only: filters ``KIND=LABEL`` that select what to run; filters of one kind are alternatives, kinds combine.
        without: filters ``KIND=LABEL`` of what to leave out.

    Raises:
        UsageError: for a filter that matches nothing, or filters that leave nothing.
    """
    cells = [cell for model in suite.models for cell in _cells_of(suite, model, registry)]
    tasks = tuple(_task_run(label, use, suite, registry) for label, use in suite.tasks.items())
    including, excluding = parse_filters(only, "--only"), parse_filters(without, "--not")
    for chosen in (*including.values(), *excluding.values()):
        for item in chosen:
            item.check([run.label for run in tasks] if item.kind == "task" else [_labels(c)[item.kind] for c in cells])
    selected_cells = tuple(
        cell
        for cell in cells
        if not (including or excluding) or is_selected(_labels(cell), including, excluding, _free(cell))
    )
    selected_tasks = tuple(run for run in tasks if is_selected({"task": run.label}, including, excluding))
    if not selected_cells or not selected_tasks:
        options = " ".join([*(f"--only {text}" for text in only), *(f"--not {text}" for text in without)])
        kind = "task" if selected_cells else "cell"
        raise UsageError(f"{options}: no {kind} of suite {suite.name!r} is left")
    return Plan(suite, selected_cells, selected_tasks)


def _labels(cell: Cell) -> dict[str, str]:
    """Return the labels of a cell that filters are matched with, by kind."""
    return {
        "model": cell.model.label, "pruner": cell.pruner_label, "recipe": cell.recipe.label,
        "sparsity": f"{cell.sparsity:g}", "seed": str(cell.seed), "cell": cell.key,
    }  # fmt: skip


def _free(cell: Cell) -> tuple[str, ...]:
    """Return the kinds of filters that a dense cell is exempt from, because pruned cells are compared with it.

    The dense model as loaded stays for any pruner and recipe; the one that a recipe changed stays for any pruner.
    """
    if cell.pruner is not None:
        return ()
    return ("pruner",) if cell.changes_dense else ("pruner", "recipe")


def _reaches(use: Use, seed: int, sparsity: float) -> bool:
    """Whether a pruner or recipe of a suite is for a seed and a sparsity (``only:``)."""
    return seed in (use.only_seeds or (seed,)) and sparsity in (use.only_sparsities or (sparsity,))


def _cells_of(suite: Suite, model: Use, registry: Registry) -> list[Cell]:
    data = suite.data or data_of_model(registry, model)
    none, knobs, precision = untrained(registry), (suite.batch_size, suite.limit), suite.precision
    recipes = [recipe for recipe in suite.recipes if is_for(recipe, model)]
    rounds = {id(recipe): _rounds(recipe, suite) for recipe in recipes}
    cells = []
    if 0.0 in suite.sparsities:
        cells += [Cell(model, None, none, 0.0, seed, None, None, *knobs, 1, precision) for seed in suite.seeds]
        changed = [
            Cell(model, None, recipe, 0.0, seed, None, data, *knobs, rounds[id(recipe)], precision)
            for seed in suite.seeds
            for recipe in recipes
            if seed in (recipe.only_seeds or suite.seeds)
        ]
        cells += [cell for cell in changed if cell.changes_dense]
    scope = suite.scope
    for pruner in (pruner for pruner in suite.pruners if is_for(pruner, model)):
        for seed in suite.seeds:
            for sparsity in (s for s in suite.sparsities if s > 0):
                for recipe in recipes:
                    if not (_reaches(pruner, seed, sparsity) and _reaches(recipe, seed, sparsity)):
                        continue
                    cell_data = data if _uses_data(pruner, recipe) else None
                    own = (*knobs, rounds[id(recipe)], precision)
                    cells.append(Cell(model, pruner, recipe, sparsity, seed, scope, cell_data, *own))
    return cells


def _rounds(recipe: Use, suite: Suite) -> int:
    """Return how many trainings in succession the sparsest networks of a recipe have had."""
    component = recipe.component
    if not isinstance(component, Recipe) or not component.trains:
        return 1
    sparsities = recipe.only_sparsities or suite.sparsities
    return max((component.rounds_of(sparsity) for sparsity in sparsities if sparsity > 0), default=1)


def _uses_data(pruner: Use, recipe: Use) -> bool:
    needs = isinstance(pruner.component, Pruner) and pruner.component.needs_data
    return needs or (isinstance(recipe.component, Recipe) and recipe.component.needs_data())


def _task_run(label: str, use: Use, suite: Suite, registry: Registry) -> TaskRun:
    task = use.component
    assert isinstance(task, Task)  # noqa: S101 - binding checked the kind
    metrics = {name: bind(registry, "metric", name, use.plugin) for name in task.metrics}
    requested = {extra.label for extra in suite.metrics}
    for extra in suite.metrics:
        if extra.name in metrics and extra.name not in requested:
            del metrics[extra.name]  # the suite's own settings of a metric replace the task's default
        metrics[extra.label] = extra
    return TaskRun(label, use, tuple(metrics.values()))
