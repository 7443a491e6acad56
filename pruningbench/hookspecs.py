"""The hooks that a plugin may implement, and the version of the contract they belong to.

A hook that registers things is called once, when plugins are loaded. A hook that observes is called while a
run goes on, with values that the observer must not change. What goes wrong in one plugin is reported by name
and harms no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pluggy

PROJECT = "pruningbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

CONTRACT_VERSION = "1.0"
"""Version of all that plugins rely on: these hooks and the names of `pruningbench.contract`.

The number before the point changes when a plugin that follows the contract may have to be changed, the number
after it when something is added. A plugin states the version it was written for in its entry-point module,
``pruningbench_contract = "1.0"``.
"""


class Register(Protocol):
    """Registers a component under a kebab-case name, as a class or as ``"module:Class"``."""

    def __call__(self, name: str, component: type | str) -> None:
        """Register `component` as `name`."""
        ...


class RegisterFunction(Protocol):
    """Registers a function or a class under a kebab-case name, itself or as ``"module:name"``."""

    def __call__(self, name: str, function: Callable[..., Any] | str) -> None:
        """Register `function` as `name`."""
        ...


class RegisterFile(Protocol):
    """Registers a file of the plugin under a kebab-case name."""

    def __call__(self, name: str, path: Path) -> None:
        """Register the file at `path` as `name`."""
        ...


@dataclass(frozen=True)
class RunInfo:
    """What observers are told of a run.

    Attributes:
        suite: name of the suite.
        folder: the run folder.
        cells: cells of the plan.
        cells_before: cells that were finished before this call.
        task_runs: tasks to run now, over all cells.
    """

    suite: str
    folder: Path
    cells: int
    cells_before: int
    task_runs: int


@dataclass(frozen=True)
class CellInfo:
    """What observers are told of a cell: one model, pruned and trained in one way.

    Attributes:
        key: identifies the cell in the journal and in the run folder's files.
        label: all of the below in one line, for people.
        model, pruner, recipe: labels; the pruner is ``dense`` where nothing is pruned.
        sparsity: target, in [0, 1).
        seed: of the cell.
    """

    key: str
    label: str
    model: str
    pruner: str
    recipe: str
    sparsity: float
    seed: int


@hookspec
def pruningbench_register_models(register: Register) -> None:
    """Register models, subclasses of `Model`."""


@hookspec
def pruningbench_register_datasets(register: Register) -> None:
    """Register data sets, subclasses of `Dataset`."""


@hookspec
def pruningbench_register_pruners(register: Register) -> None:
    """Register pruners, subclasses of `ScorePruner`, `MovingPruner` or `Pruner`."""


@hookspec
def pruningbench_register_recipes(register: Register) -> None:
    """Register recipes, subclasses of `Recipe`."""


@hookspec
def pruningbench_register_tasks(register: Register) -> None:
    """Register tasks, subclasses of `Task`."""


@hookspec
def pruningbench_register_metrics(register: Register) -> None:
    """Register metrics, subclasses of `Metric`."""


@hookspec
def pruningbench_register_attribution_methods(register: Register) -> None:
    """Register attribution methods, subclasses of `AttributionMethod`, for the task ``interpretability``."""


@hookspec
def pruningbench_register_discovery_methods(register: Register) -> None:
    """Register methods of object discovery, subclasses of `DiscoveryMethod`, for the task ``discovery``."""


@hookspec
def pruningbench_register_suites(register: RegisterFile) -> None:
    """Register suites, YAML files of the plugin, to be run by their names."""


@hookspec
def pruningbench_register_executors(register: RegisterFunction) -> None:
    """Register executors, subclasses of `Executor`, for ``run --executor NAME``."""


@hookspec
def pruningbench_register_observers(register: RegisterFunction) -> None:
    """Register observers for ``run --observer NAME``: classes without arguments with observing hooks as methods.

    Observing hooks of a plugin's module itself are called in every run.
    """


@hookspec
def pruningbench_register_exhibits(register: RegisterFunction) -> None:
    """Register how the samples of an `Exhibit` of the kind `name` are drawn: an `ExhibitDrawer`."""


@hookspec
def pruningbench_register_figures(register: RegisterFunction) -> None:
    """Register figures of a whole run: a `FigureDrawer`."""


@hookspec
def pruningbench_register_columns(register: RegisterFunction) -> None:
    """Register columns for ``leaderboard --columns NAME``: a `BoardColumn`."""


@hookspec
def pruningbench_register_statements(register: RegisterFunction) -> None:
    """Register sentences that stand below a leaderboard and say what its results mean: a `Statement`."""


@hookspec
def pruningbench_run_started(run: RunInfo) -> None:
    """Observe that a run begins, or goes on."""


@hookspec
def pruningbench_cell_started(run: RunInfo, cell: CellInfo) -> None:
    """Observe that the work on a cell begins."""


@hookspec
def pruningbench_task_done(run: RunInfo, cell: CellInfo, task: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Observe that a task has ended on a cell, well or not; `records` are its lines of the journal."""


@hookspec
def pruningbench_cell_done(run: RunInfo, cell: CellInfo, ok: bool) -> None:
    """Observe that all tasks of a cell have ended; `ok` if all of them gave values."""


@hookspec
def pruningbench_run_done(run: RunInfo, ok: bool) -> None:
    """Observe that a run has ended or was interrupted; `ok` if nothing is left to do."""


@hookspec
def pruningbench_note(run: RunInfo, message: str) -> None:
    """Observe progress within a cell, such as ``epoch 2/12``."""


@hookspec
def pruningbench_warning(run: RunInfo, message: str) -> None:
    """Observe something that a person should know."""
