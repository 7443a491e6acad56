"""The parts of a measurement's artifact key: everything that the measurement was actually made from.

The plan key says what was requested and comes from the suite alone. The artifact key says what produced the
result: the content of weights and data, the preprocessing, and the code of every component. Each record stores the
parts, so that a reader, the leaderboard and a resumed run can see which of them differ:

=================  =====================================================================================
``weights``        hash of all tensors of the dense model
``preprocessing``  how images are prepared for the model
``libraries``      libraries that define the network's modules, with their versions
``data``           content of the scoring or training data, if the cell reads any
``task FIELD``     content of the data set, or weights of the model, that a field of the task names
``model``, ``pruner``, ``recipe``, ``task``, ``metric LABEL``
                   code: distribution, version, version of the class, hash of the source (`store.code`)
``setting NAME``   what a field of the task that is "auto" meant for this model
``reference``      for a task that compares with the dense model: the recipe that trained it, or "as loaded", and the
                   hash of its tensors
``rounds``         for a dense reference and what is compared with it: how many times it was trained in succession
``precision``      of the tasks' forward passes, unless it is float32
``network``        hash of all tensors of the pruned model that was measured
=================  =====================================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from pruningbench.base.identity import content_hash, text_hash
from pruningbench.contract.component import Use
from pruningbench.contract.precision import FULL
from pruningbench.contract.vision import VisionModel
from pruningbench.store.code import code_of
from pruningbench.suite.cells import Cell, TaskRun, plan_key

Parts = dict[str, str]
REFERENCE = "reference"
ROUNDS = "rounds"
METRIC = "metric "
PRECISION = "precision"
NETWORK = "network"
"""This part is an output, not an input: no key contains it, but a cell never mixes two networks."""


def code_parts(cell: Cell, run: TaskRun) -> Parts:
    """Return the code of all components of a task on a cell, without loading anything."""
    parts = {"model": code_of(cell.model)}
    if cell.pruner is not None:
        parts["pruner"] = code_of(cell.pruner)
    if cell.pruner is not None or cell.changes_dense:
        parts["recipe"] = code_of(cell.recipe)
    if cell.trained:
        parts[ROUNDS] = str(cell.rounds)
    if cell.precision != FULL:
        parts[PRECISION] = cell.precision
    parts["task"] = code_of(run.task)
    return parts | {f"{METRIC}{metric.label}": code_of(metric) for metric in run.metrics}


def model_parts(model: VisionModel) -> Parts:
    """Return the parts that identify a loaded dense model by its content."""
    return {
        "weights": model.fingerprint,
        "preprocessing": content_hash(repr(model.preprocessing)),
        "libraries": _libraries(model),
    }


def _libraries(model: VisionModel) -> str:
    """Return the packages that define the network's modules; torch's version is recorded with the environment."""
    tops = {type(module).__module__.partition(".")[0] for module in model.network.modules()}
    versions = {top: getattr(sys.modules.get(top), "__version__", "") for top in tops - {"torch"}}
    return ", ".join(f"{top} {version}" for top, version in sorted(versions.items()) if version)


@dataclass
class Contents:
    """The known content of models and data sets, by the key of their use."""

    models: dict[str, Parts] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    def parts(self, cell: Cell, run: TaskRun) -> Parts:
        """Return the known parts of a task on a cell."""
        parts = dict(self.models.get(key_of(cell.model), {}))
        if cell.data is not None and key_of(cell.data) in self.data:
            parts["data"] = self.data[key_of(cell.data)]
        for name, use in run.task.references.items():
            content = self.models.get(key_of(use), {}).get("weights") or self.data.get(key_of(use))
            if content:
                parts[f"task {name}"] = content
        return parts | code_parts(cell, run)


def chosen(settings: Mapping[str, str]) -> Parts:
    """Return the parts for settings that a task chose for a model."""
    return {f"setting {name}": value for name, value in settings.items()}


def key_of(use: Use) -> str:
    """Return a key that identifies a component as a suite uses it."""
    if "key" not in use.texts:
        use.texts["key"] = text_hash(use.canonical())
    return use.texts["key"]


def artifact_key(cell: Cell, run: TaskRun, made_of: Mapping[str, str], metric: str | None = None) -> str:
    """Return the artifact key of one metric of a task on a cell, or of the task alone."""
    inputs = {
        name: text
        for name, text in made_of.items()
        if name != NETWORK and (not name.startswith(METRIC) or name == f"{METRIC}{metric}")
    }
    return content_hash([plan_key(cell, run), inputs])


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the parts that are in both mappings and differ: name -> (before, now)."""
    return {name: (text, now[name]) for name, text in before.items() if name in now and now[name] != text}
