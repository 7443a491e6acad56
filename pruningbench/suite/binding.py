"""Binding: turns ``name`` or ``{use: name, field: value}`` into a validated component."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from pruningbench.contract.component import Component, Kind, Refers, Use
from pruningbench.errors import FieldError, PluginError, UnknownComponentError, did_you_mean
from pruningbench.plugins import Registry
from pruningbench.suite.reference import field_types

Path = tuple[str | int, ...]


class BindingError(FieldError):
    """A reference that cannot be bound.

    Attributes:
        path: path to the wrong value inside the reference.
        at_key: whether the key at `path` is wrong, rather than its value.
    """

    def __init__(self, message: str, path: Path = (), *, at_key: bool = False) -> None:
        super().__init__(message)
        self.path, self.at_key = path, at_key


def bind(registry: Registry, kind: Kind, reference: Any, home: str = "") -> Use:
    """Return the component that `reference` names, with every field validated.

    Args:
        registry: where names are looked up.
        kind: the expected kind of component.
        reference: a name, or a mapping with ``use`` and fields.
        home: distribution that the reference comes from (through its suite, or through the default of a field of its
            component); if several components share a name, the one from this distribution is used.

    Raises:
        BindingError: for an unknown name or field (the nearest names are suggested), a mistyped or missing
            value, or a combination of values that the component refuses.
    """
    name, fields = _split(kind, reference)
    try:
        entry = registry.entry(kind, name, home)
    except UnknownComponentError as error:
        raise BindingError(str(error), ("use",) if isinstance(reference, Mapping) else ()) from None
    component: Any = entry.load()  # Any, because mypy does not consider a class hashable
    names = [f.name for f in dataclasses.fields(component) if f.init]
    for key in fields:
        if key not in names:
            hint = did_you_mean(str(key), names) or f"; it has: {', '.join(names) or 'no fields'}"
            raise BindingError(f"{kind} {name!r} has no field {key!r}{hint}", (key,), at_key=True)
    references: dict[str, Use] = {}
    values = dict(fields)
    for field_name, (referred, several) in references_of(component).items():
        value = values.get(field_name, _default(component, field_name))
        origin = home if field_name in values else entry.plugin.distribution
        if value is None or value is dataclasses.MISSING:
            continue
        if several and not isinstance(value, (list, tuple)):
            message = f"{kind} {name!r}, field {field_name!r}: must be a list, got {_excerpt(value)}"
            raise BindingError(message, (field_name,))
        items = {(field_name, i): item for i, item in enumerate(value)} if several else {(field_name,): value}
        for path, item in items.items():
            try:
                references[_dotted(path)] = bind(registry, referred, item, origin)
            except BindingError as error:
                message = f"{kind} {name!r}, field {_dotted(path)!r}: {error}"
                raise BindingError(message, (*path, *error.path), at_key=error.at_key) from None
        spelled = [references[_dotted(path)].spec() for path in items]  # one spelling for equal references
        values[field_name] = spelled if several else spelled[0]
    instance = _validate(kind, name, component, values)
    problem = instance.problem()
    if problem:
        raise BindingError(f"{kind} {name!r}: {problem}")
    return Use(registry.name_of(entry), instance, references, entry.plugin.distribution, entry.plugin.version)


def data_of_model(registry: Registry, model: Use) -> Use | None:
    """Return a model's default data for scoring and training, for suites that name none; None if it has none.

    The default is the data set in the model's field `data`, with which it was made, else the one that its class names.
    """
    dataset = model.references.get("data")
    if dataset is not None and dataset.component.kind == "dataset":
        return dataset
    default = getattr(model.component, "training_data", None)
    return None if default is None else bind(registry, "dataset", default, model.plugin)


def _split(kind: Kind, reference: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(reference, str):
        return reference, {}
    if not isinstance(reference, Mapping):
        raise BindingError(
            f"a {kind} is a name or a mapping with `use:`, not {_excerpt(reference)}"
            + ("; quote it if it is a name" if isinstance(reference, (bool, int, float)) else "")
        )
    if not isinstance(reference.get("use"), str):
        hint = did_you_mean("use", [str(k) for k in reference]) if "use" not in reference else ""
        raise BindingError(f"a {kind} given as a mapping needs `use: NAME` with a name that is text{hint}")
    return reference["use"], {key: value for key, value in reference.items() if key != "use"}


@cache
def references_of(component: type[Any]) -> dict[str, tuple[Kind, bool]]:
    """Return the fields of `component` that name other components, with the kind and whether they list several."""
    hints = field_types(component)
    references: dict[str, tuple[Kind, bool]] = {}
    for field in dataclasses.fields(component):
        for part in _parts(hints[field.name]):
            for mark in getattr(part, "__metadata__", ()):
                if isinstance(mark, Refers):
                    references[field.name] = (mark.kind, typing.get_origin(hints[field.name]) is tuple)
    return references


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return a type hint and, for ``X | None`` and ``tuple[X, ...]``, its members."""
    return (hint, *typing.get_args(hint))


def _default(component: type[Component], field_name: str) -> Any:
    field = next(f for f in dataclasses.fields(component) if f.name == field_name)
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


@cache
def _adapter(component: type[Any]) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    # for a plain dataclass, pydantic reads its settings from this attribute
    component.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    return TypeAdapter(component)


def _validate(kind: Kind, name: str, component: Any, values: Mapping[str, Any]) -> Component:
    from pydantic import PydanticUserError, ValidationError

    # for JSON input, pydantic's strict mode accepts a list as a tuple, but never '3' or true as 3
    text = "{" + ", ".join(f"{json.dumps(key)}: {_json(kind, name, key, values[key])}" for key in values) + "}"
    try:
        validated: Component = _adapter(component).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = tuple(p for i, p in enumerate(first["loc"]) if i == 0 or isinstance(p, int))
        where = f", field {_dotted(path)!r}" if path else ""
        raise BindingError(f"{kind} {name!r}{where}: {_explain(first)}", path) from None
    except PydanticUserError as error:
        reason = str(error).partition("\n")[0]
        raise PluginError(f"{kind} {name!r}: its fields cannot be validated: {reason}") from error
    return validated


def _json(kind: Kind, name: str, field_name: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        message = "must be a finite number, text, true, false, null, a list or a mapping of these"
        raise BindingError(
            f"{kind} {name!r}, field {field_name!r}: {message}, got {_excerpt(value)}", (field_name,)
        ) from None


_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
}


def _explain(error: Mapping[str, Any]) -> str:
    kind, value = error["type"], error.get("input")
    if kind == "missing":
        return "is required"
    if kind == "literal_error":
        expected = error["ctx"]["expected"]
        choices = [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
        near = did_you_mean(str(value), choices)
        return f"must be {expected}, got {_excerpt(value)}{near}"
    expected = _TYPES.get(kind, "")
    return f"must be {expected}, got {_excerpt(value)}" if expected else f"{error['msg']}, got {_excerpt(value)}"


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
