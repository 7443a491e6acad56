"""Plans: turn a suite into cells with stable keys, and say what work they share and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING

from pruningbench.contract.component import Use
from pruningbench.contract.dataset import Dataset
from pruningbench.contract.model import Model
from pruningbench.contract.pruner import Pruner
from pruningbench.contract.recipe import Recipe
from pruningbench.contract.task import Task
from pruningbench.errors import UsageError
from pruningbench.plugins import Registry
from pruningbench.suite.alike import Alike, alike, shared_work
from pruningbench.suite.beside import is_for
from pruningbench.suite.binding import bind, data_of_model
from pruningbench.suite.cells import Cell, TaskRun, pruner_of, recipe_of
from pruningbench.suite.dense import untrained
from pruningbench.suite.estimates import CostEstimate, Subject, estimate, subject
from pruningbench.suite.filters import Filter, is_selected, parse_filters
from pruningbench.suite.labels import with_distinguishing_fields
from pruningbench.suite.schema import Suite

if TYPE_CHECKING:
    import torch


Filters = Mapping[str, Sequence[Filter]]
"""Filters by kind."""


@dataclass(frozen=True)
class Plan:
    """All cells of a suite, in the order that shares the most work, and the tasks for each."""

    suite: Suite
    cells: tuple[Cell, ...]
    tasks: tuple[TaskRun, ...]

    @cached_property
    def alike(self) -> tuple[Alike, ...]:
        """The cells in groups that differ only in sparsity and seed."""
        return alike(self.cells)

    def shared_work(self) -> dict[str, int]:
        """Count how often each kind of work is done, and how many cells it serves."""
        return {**shared_work(self.alike), "task_runs": self.task_runs()}

    def tasks_of(self, cell: Cell) -> tuple[TaskRun, ...]:
        """Return the tasks that apply to the model of a cell."""
        model = cell.model
        known, tasks = self._tasks_of_models.get(id(model), (None, ()))
        if known is not model:
            tasks = tuple(run for run in self.tasks if is_for(run.task, model))
            self._tasks_of_models[id(model)] = model, tasks
        return tasks

    @cached_property
    def _tasks_of_models(self) -> dict[int, tuple[Use, tuple[TaskRun, ...]]]:
        """What `tasks_of` has found so far, by the identity of the object; a few models serve many cells."""
        return {}

    def task_runs(self) -> int:
        """Count the tasks of all cells."""
        return sum(len(cells) * len(self.tasks_of(cells[0])) for cells in self.alike)

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
        for same in self.alike if cells is None else alike(cells):
            cell = max(same, key=attrgetter("sparsity"))
            pair = (cell.model.label, cell.pruner_label)
            if cell.pruner is not None and (pair not in pairs or cell.sparsity > pairs[pair].sparsity):
                pairs[pair] = cell
        subjects: dict[str, Subject] = {}
        estimates = {}
        for pair, cell in pairs.items():
            assert cell.pruner is not None  # noqa: S101 - the dense model is in no pair
            if pair[0] not in subjects:
                subjects[pair[0]] = subject(cell.model, cell.scope, device)
            estimates[pair] = estimate(subjects[pair[0]], cell.pruner, cell.sparsity, cell.batch_size)
        return estimates

    def refusals(self, costs: Mapping[tuple[str, str], CostEstimate]) -> dict[str, str]:
        """Return the cells that cannot be made, by key, each with the reason in one line.

        Args:
            costs: what `costs` returned; pairs that are not in it are not refused, unless the pruner cannot reach
                a cell's sparsity on any network or the recipe refuses the pruner.
        """
        reasons: dict[int, str] = {}
        for cells in self.alike:
            of_sparsity: dict[float, str | None] = {}
            for cell in cells:
                if cell.sparsity not in of_sparsity:
                    of_sparsity[cell.sparsity] = _refusal(cell, costs)
                if reason := of_sparsity[cell.sparsity]:
                    reasons[id(cell)] = reason
        return {cell.key: reasons[id(cell)] for cell in self.cells if id(cell) in reasons}

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
        some = [cells[0] for cells in self.alike]
        of_cells = [*(cell.model for cell in some), *(cell.data for cell in some if cell.data is not None)]
        uses = [*{id(use): use for use in of_cells}.values(), *(run.task for run in self.tasks)]
        while uses:
            use = uses.pop()
            uses.extend(use.references.values())
            yield use


def _refusal(cell: Cell, costs: Mapping[tuple[str, str], CostEstimate]) -> str | None:
    """Return why a cell, and all that differ from it only in the seed, cannot be made; None if they can."""
    pruner, estimated = pruner_of(cell), costs.get((cell.model.label, cell.pruner_label))
    if estimated is not None and estimated.refusal:
        return estimated.refusal
    if not isinstance(pruner, Pruner):
        return None
    reason = pruner.unreachable(cell.sparsity) or recipe_of(cell).refuses(pruner)
    return f"pruner {cell.pruner_label!r}: {reason}" if reason else None


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
            item.check([run.label for run in tasks] if item.kind == "task" else map(_LABELS[item.kind], cells))
    selected_cells = tuple(_selected(cells, including, excluding))
    selected_tasks = tuple(run for run in tasks if is_selected({"task": run.label}, including, excluding))
    if not selected_cells or not selected_tasks:
        options = " ".join([*(f"--only {text}" for text in only), *(f"--not {text}" for text in without)])
        kind = "task" if selected_cells else "cell"
        raise UsageError(f"{options}: no {kind} of suite {suite.name!r} is left")
    return Plan(suite, selected_cells, selected_tasks)


_LABELS: dict[str, Callable[[Cell], str]] = {
    "model": lambda cell: cell.model.label,
    "pruner": lambda cell: cell.pruner_label,
    "recipe": lambda cell: cell.recipe.label,
    "sparsity": lambda cell: f"{cell.sparsity:g}",
    "seed": lambda cell: str(cell.seed),
    "cell": lambda cell: cell.key,
}
"""The labels of a cell that filters are matched with, by kind."""


def _selected(cells: Sequence[Cell], including: Filters, excluding: Filters) -> Iterable[Cell]:
    """Return the cells that filters select; equal labels are matched once."""
    kinds = [kind for kind in _LABELS if kind in including or kind in excluding]
    if not kinds:
        return cells
    known: dict[tuple[tuple[str, ...], ...], bool] = {}

    def takes(cell: Cell) -> bool:
        labels, free = tuple(_LABELS[kind](cell) for kind in kinds), _free(cell)
        if (labels, free) not in known:
            known[labels, free] = is_selected(dict(zip(kinds, labels, strict=True)), including, excluding, free)
        return known[labels, free]

    return filter(takes, cells)


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
    scope, sparsities = suite.scope, [sparsity for sparsity in suite.sparsities if sparsity > 0]
    for pruner in (pruner for pruner in suite.pruners if is_for(pruner, model)):
        own = [(recipe, data if _uses_data(pruner, recipe) else None, rounds[id(recipe)]) for recipe in recipes]
        for seed in suite.seeds:
            for sparsity in sparsities:
                if not _reaches(pruner, seed, sparsity):
                    continue
                cells += [
                    Cell(model, pruner, recipe, sparsity, seed, scope, own_data, *knobs, own_rounds, precision)
                    for recipe, own_data, own_rounds in own
                    if _reaches(recipe, seed, sparsity)
                ]
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
