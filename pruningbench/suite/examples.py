"""Examples of how a suite uses a component: from a shipped suite, or made from its required fields."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from pruningbench.base.yamlsource import read_yaml
from pruningbench.contract.component import ComponentRef, Kind
from pruningbench.errors import PruningBenchError
from pruningbench.plugins import Registration, Registry
from pruningbench.suite.beside import without_beside
from pruningbench.suite.binding import BindingError, bind
from pruningbench.suite.jsonschema import AXES
from pruningbench.suite.reference import describe_fields, field_types

_DATA: dict[str, ComponentRef] = {"test": {"use": "digits", "split": "test"}}
"""Data sets for fields of these names; all other fields get `_ANY_DATA`."""
_ANY_DATA: ComponentRef = "digits"


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
    hints = field_types(component)
    required = {field["name"]: None for field in describe_fields(component) if field["required"]}
    fields = {field: _value(field, hints[field], registry) for field in required if field not in stated} | stated
    reference: ComponentRef = {"use": name, **fields} if fields else name
    bind(registry, kind, reference, registration.plugin.distribution)
    return reference


def as_yaml(kind: Kind, reference: ComponentRef) -> str:
    """Return an example as lines of a suite: under the list of its kind, or as a field for the other kinds."""
    text = yaml.safe_dump(reference, default_flow_style=True, sort_keys=False, width=10_000).strip()
    text = text.removesuffix("\n...").strip()
    keys = [key for key, of in AXES.items() if of == kind]
    if keys:
        return f"{keys[0]}:\n  - {text}"
    return {
        "dataset": f"data: {text}",
        "attribution-method": f"methods: [{text}]   # a field of tasks such as interpretability",
        "discovery-method": f"method: {text}   # a field of the task discovery",
    }[kind]


def _uses(registry: Registry, kind: Kind, name: str) -> Iterator[ComponentRef]:
    """Yield the uses of a component in the shipped suites, with fields first, as far as the suites can be read."""
    for registration in registry.registrations("suite"):
        try:
            suite = read_yaml(registration.load(), source=registration.name).value
        except PruningBenchError:
            continue
        for key, of in AXES.items():
            if of == kind and isinstance(suite, dict) and isinstance(suite.get(key), list):
                yield from _bound(registry, kind, name, [without_beside(key, item) for item in suite[key]])


def _bound(registry: Registry, kind: Kind, name: str, items: list[Any]) -> Iterator[ComponentRef]:
    for item in items:
        if isinstance(item, Mapping) and item.get("use") == name:
            try:
                bind(registry, kind, item)
            except BindingError:
                continue
            yield dict(item)


def _value(name: str, hint: Any, registry: Registry) -> Any:
    """Return a value for a required field."""
    kinds = [mark.kind for part in (hint, *typing.get_args(hint)) for mark in getattr(part, "__metadata__", ())]
    if kinds:
        value: Any = _DATA.get(name, _ANY_DATA) if kinds[0] == "dataset" else _without_fields(registry, kinds[0])
        return [value] if typing.get_origin(hint) in (tuple, list) else value
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)[0]
    if typing.get_origin(hint) in (tuple, list):
        return [_value(name, typing.get_args(hint)[0], registry)]
    return {int: 1, float: 1.0, bool: True}.get(hint, "example")


def _without_fields(registry: Registry, kind: Kind) -> str:
    """Return the name of a component that needs no fields."""
    for registration in registry.registrations(kind):
        if not any(field["required"] for field in describe_fields(registration.load())):
            return registry.name_of(registration)
    return registry.names(kind)[0]
