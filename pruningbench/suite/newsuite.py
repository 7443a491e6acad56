"""Writes the text of a new suite from a few answers."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pruningbench.contract.component import ComponentRef, Kind
from pruningbench.errors import UsageError
from pruningbench.plugins import Registry
from pruningbench.suite.beside import NAME
from pruningbench.suite.reference import describe_fields, field_types
from pruningbench.suite.schema import suite_from_text

SPARSITIES = (0, 0.5, 0.8, 0.9)
MODELINE = "# yaml-language-server: $schema={schema}\n"
"""First line of a suite, by which an editor finds the schema."""
_SPLITS = {"train": "train", "test": "test"}
"""Fields of tasks that mean a split."""


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
        *(f"  - {_flow(_task(registry, task, measured))}" for task in tasks),
    ]
    text = MODELINE.format(schema=schema) + "\n".join(lines) + "\n"
    suite_from_text(text, registry, source=f"{name}.yaml")
    return text


def _own_data(registry: Registry, model: str, data: str) -> dict[str, Any]:
    """Return a data set as the model uses it for training, for example with the model's classes, if it does."""
    component = registry.entry("model", model).load()
    own = getattr(component, "training_data", None)
    return dict(own) if isinstance(own, Mapping) and own.get("use") == data else {"use": data}


def _task(registry: Registry, name: str, data: Mapping[str, Any]) -> ComponentRef:
    """Return a task that measures on a data set."""
    component = registry.entry("task", name).load()
    hints = field_types(component)
    fields: dict[str, Any] = {}
    for field in (f["name"] for f in describe_fields(component) if f["required"]):
        kinds = [mark.kind for part in (hints[field], *typing.get_args(hints[field]))
                 for mark in getattr(part, "__metadata__", ())]  # fmt: skip
        if kinds != ["dataset"]:
            raise UsageError(f"task {name!r} needs `{field}:`, which no option gives; write it by hand")
        reference = _split(registry, data, _SPLITS.get(field, "test"))
        fields[field] = [reference] if typing.get_origin(hints[field]) is tuple else reference
    return {"use": name, **fields} if fields else name


def _split(registry: Registry, data: Mapping[str, Any], split: str) -> ComponentRef:
    """Return a data set's split, if it has splits of this name."""
    hint = field_types(registry.entry("dataset", data["use"]).load()).get("split")
    choices = {choice for part in (hint, *typing.get_args(hint)) for choice in typing.get_args(part)}
    choices |= set(typing.get_args(hint))
    reference = {**data, "split": split} if split in choices else dict(data)
    return reference if len(reference) > 1 else str(data["use"])


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
    return f"{key}: {_flow(list(values))}"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return text.removesuffix("...").strip()
