"""Examples of how a suite uses a component: from a shipped suite, or made from its required fields."""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pruningbench.base.yamlsource import read_yaml
from pruningbench.contract.component import ComponentRef, Kind
from pruningbench.errors import PruningBenchError
from pruningbench.plugins import Registration, Registry
from pruningbench.suite.beside import without_beside
from pruningbench.suite.binding import BindingError, bind, references_of
from pruningbench.suite.jsonschema import AXES
from pruningbench.suite.reference import describe_fields, field_types

_SPLITS = {"train": "train"}
"""Fields that name a data set and mean a split; all others mean ``test``, where the data set has it."""


def example_of(registry: Registry, kind: Kind, registration: Registration) -> ComponentRef:
    """Return a reference that a suite could contain, and that binds.

    The shortest use in a shipped suite is taken. If there is none, required fields are filled: with the class's own
    `example`, a data set for a field that names one, the first choice, or the smallest value of the type.

    Raises:
        BindingError: if the example does not bind; the plugin's author should then state one (`Component.example`).
        PluginError: for a component that cannot be imported.
    """
    component = registration.load()
    name = registry.name_of(registration)
    stated = dict(component.example)
    shipped = () if stated else list(_uses(registry, kind, name))
    if shipped:
        return min(shipped, key=lambda reference: len(as_yaml(kind, reference)))
    data = {"use": _without_fields(registry, "dataset")}
    fields = required_fields(registry, component, data, without=stated) | stated
    reference: ComponentRef = {"use": name, **fields} if fields else name
    bind(registry, kind, reference, registration.plugin.distribution)
    return reference


def as_yaml(kind: Kind, reference: ComponentRef) -> str:
    """Return an example as lines of a suite: under the list of its kind, or as a field for the other kinds."""
    text = in_flow(reference)
    keys = [key for key, of in AXES.items() if of == kind]
    if keys:
        return f"{keys[0]}:\n  - {text}"
    return {
        "dataset": f"data: {text}",
        "attribution-method": f"methods: [{text}]   # a field of tasks that explain",
        "discovery-method": f"method: {text}   # a field of tasks that find objects",
    }[kind]


def _uses(registry: Registry, kind: Kind, name: str) -> Iterator[ComponentRef]:
    """Yield the uses of a component in the shipped suites, with fields first, as far as the suites can be read."""
    for registration in registry.registrations("suite"):
        try:
            path = registration.load()
            state = path.stat()
            suite = _suite(path, registration.name, state.st_mtime_ns, state.st_size)
        except (PruningBenchError, OSError):
            continue
        for key, of in AXES.items():
            if of == kind and isinstance(suite, dict) and isinstance(suite.get(key), list):
                yield from _bound(registry, kind, name, [without_beside(key, item) for item in suite[key]])


@lru_cache(maxsize=64)
def _suite(path: Path, name: str, _changed: int, _size: int) -> Any:
    """Return what a suite's file says; all components look into the same suites, and parsing takes a second."""
    return read_yaml(path, source=name).value


def _bound(registry: Registry, kind: Kind, name: str, items: list[Any]) -> Iterator[ComponentRef]:
    for item in items:
        if isinstance(item, Mapping) and item.get("use") == name and len(item) > 1:
            try:
                bind(registry, kind, item)
            except BindingError:
                continue
            yield copy.deepcopy(dict(item))


def required_fields(
    registry: Registry, component: Any, data: Mapping[str, Any], *, without: Iterable[str] = ()
) -> dict[str, Any]:
    """Return a value for each required field of a component.

    Args:
        registry: the installed components.
        component: the class (Any, because mypy does not consider a class hashable).
        data: what a field that names a data set gets, with the split that the field means.
        without: fields to leave out.
    """
    hints, references = field_types(component), references_of(component)
    required = [field["name"] for field in describe_fields(component) if field["required"]]
    values = {}
    for name in (name for name in required if name not in without):
        kind, several = references.get(name, (None, False))
        if kind is None:
            values[name] = _plain(hints[name])
            continue
        value: ComponentRef = _without_fields(registry, kind)
        if kind == "dataset":
            value = split_of(registry, data, _SPLITS.get(name, "test"))
        values[name] = [value] if several else value
    return values


def split_of(registry: Registry, data: Mapping[str, Any], split: str) -> ComponentRef:
    """Return a reference to a data set's split, or to the data set if it has no split of this name."""
    hint = field_types(registry.entry("dataset", data["use"]).load()).get("split")
    choices = {choice for part in (hint, *typing.get_args(hint)) for choice in (part, *typing.get_args(part))}
    reference = {**data, "split": split} if split in choices else dict(data)
    return reference if len(reference) > 1 else str(data["use"])


def _plain(hint: Any) -> Any:
    """Return a value of a type that names no component: the first choice, or a small value."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)[0]
    if typing.get_origin(hint) in (tuple, list):
        return [_plain(typing.get_args(hint)[0])]
    return {int: 1, float: 1.0, bool: True}.get(hint, "example")


def _without_fields(registry: Registry, kind: Kind) -> str:
    """Return the name of a component that needs no fields, else of any; a placeholder if none of the kind exists."""
    for registration in registry.registrations(kind):
        if not any(field["required"] for field in describe_fields(registration.load())):
            return registry.name_of(registration)
    return next(iter(registry.names(kind)), f"some-{kind}")


def in_flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return text.removesuffix("...").strip()
