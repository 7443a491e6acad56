"""Writes the text of a new suite from a few answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pruningbench.contract.component import ComponentRef, Kind
from pruningbench.errors import SuiteError, UsageError
from pruningbench.plugins import Registry
from pruningbench.suite.beside import NAME
from pruningbench.suite.binding import references_of
from pruningbench.suite.examples import in_flow, required_fields
from pruningbench.suite.schema import load_suite, suite_from_text

EXAMPLE = "quickstart"
"""The suite whose components are suggested."""
SPARSITIES = (0, 0.5, 0.8, 0.9)
MODELINE = "# yaml-language-server: $schema={schema}\n"
"""First line of a suite, by which an editor finds the schema."""


def suite_text(
    registry: Registry,
    *,
    name: str,
    models: Sequence[str],
    pruners: Sequence[str],
    tasks: Sequence[str],
    data: str,
    sparsities: Sequence[float] = SPARSITIES,
    schema: str = "suite.schema.json",
) -> str:
    """Return a suite's text: a valid suite with a modeline and a comment beside each list.

    Args:
        registry: the installed components.
        name: name of the suite.
        models: names of the models to prune.
        pruners: names of the pruners.
        tasks: names of the tasks.
        data: name of the data set on which the tasks measure; where it has splits, ``test`` is measured on.
        sparsities: shares of prunable weights to prune.
        schema: where the JSON Schema is, as the modeline says it.

    Raises:
        UsageError: for a name that is not allowed, and for a task that needs more than data.
        SuiteError: if the suite is not valid, for example for an unknown name.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"name must be text of letters, digits, '.', '_' and '-', got {name!r}")
    measured = _own_data(registry, models[0], data)
    lines = [
        f"name: {name}",
        _list("models", models),
        _list("pruners", pruners),
        _list("sparsities", sparsities) + "   # shares of prunable weights; 0 is the dense model",
        "recipes: [none]   # none prunes and measures; finetune trains after pruning",
        "seeds: [0]",
        "tasks:",
        *(f"  - {in_flow(_task(registry, task, measured))}" for task in tasks),
    ]
    text = MODELINE.format(schema=schema) + "\n".join(lines) + "\n"
    suite_from_text(text, registry, source=f"{name}.yaml")
    return text


def defaults(registry: Registry) -> dict[Kind, str]:
    """Return names that work together, as the suite `EXAMPLE` has them; nothing if it is not installed."""
    try:
        suite = load_suite(EXAMPLE, registry)
    except SuiteError:
        return {}
    task = next(iter(suite.tasks.values()))
    data = next(use.name for use in task.references.values() if use.component.kind == "dataset")
    names = list(dict.fromkeys(use.name for use in suite.pruners))
    return {"model": suite.models[0].name, "pruner": ", ".join(names[:2]), "task": task.name, "dataset": data}


def _own_data(registry: Registry, model: str, data: str) -> dict[str, Any]:
    """Return a data set as the model uses it for training, for example with the model's classes, if it does."""
    component = registry.entry("model", model).load()
    own = getattr(component, "training_data", None)
    return dict(own) if isinstance(own, Mapping) and own.get("use") == data else {"use": data}


def _task(registry: Registry, name: str, data: Mapping[str, Any]) -> ComponentRef:
    """Return a task that measures on a data set."""
    component: Any = registry.entry("task", name).load()  # Any, because mypy does not consider a class hashable
    fields, references = required_fields(registry, component, data), references_of(component)
    others = [field for field in fields if field not in references or references[field][0] != "dataset"]
    if others:
        raise UsageError(f"task {name!r} needs `{others[0]}:`, which no option gives; write it by hand")
    return {"use": name, **fields} if fields else name


def known(registry: Registry, kind: Kind, names: Sequence[str]) -> list[str]:
    """Return names of a kind, checked.

    Raises:
        UnknownComponentError: for a name that is not registered; the message suggests the nearest.
        UsageError: if there are no names.
    """
    if not names:
        raise UsageError(f"name at least one {kind}")
    for name in names:
        registry.entry(kind, name)
    return list(names)


def _list(key: str, values: Sequence[Any]) -> str:
    return f"{key}: {in_flow(list(values))}"
