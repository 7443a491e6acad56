"""The JSON Schema of suites, with every installed component, for editors that complete and check YAML.

Source: JSON Schema, draft 2020-12, https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pruningbench.contract.component import BUILT_IN, Kind, Refers
from pruningbench.contract.precision import FULL, PRECISIONS
from pruningbench.errors import PluginError
from pruningbench.plugins import Registration, Registry
from pruningbench.suite.beside import ALIASED, AS, FOR, LIMITED, NAME, ONLY, RESTRICTED
from pruningbench.suite.labels import LONGEST
from pruningbench.suite.reference import describe_fields, field_types

DIALECT = "https://json-schema.org/draft/2020-12/schema"
AXES: dict[str, Kind] = {
    "models": "model", "pruners": "pruner", "recipes": "recipe", "tasks": "task", "metrics": "metric",
}  # fmt: skip
"""Lists of a suite and the kind of component in each."""
_PLAIN = {str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
          type(None): {"type": "null"}}  # fmt: skip


def suite_schema(registry: Registry, *, only_built_in: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of suites as plain JSON.

    Components that cannot be imported are left out, because no suite can use them.

    Args:
        registry: the installed components.
        only_built_in: leave out what other distributions register.
    """
    definitions: dict[str, Any] = {}
    for kind in typing.get_args(Kind):
        known = [
            (registration, fields)
            for registration in registry.registrations(kind)
            if not only_built_in or registration.plugin.distribution == BUILT_IN
            if (fields := _fields(registration)) is not None
        ]
        definitions[kind] = _component(kind, registry, known)
        definitions |= {_definition(registration): fields for registration, fields in known}
    return {
        "$schema": DIALECT,
        "title": "Suite of pruningbench",
        "type": "object",
        "properties": _properties(),
        "required": ["name", "models", "pruners", "sparsities", "tasks"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _properties() -> dict[str, Any]:
    axis = {key: {"type": "array", "items": {"$ref": f"#/$defs/{kind}"}} for key, kind in AXES.items()}
    at_least_one = {"minItems": 1}
    positive = {"type": "integer", "minimum": 1}
    return {
        "name": {"type": "string", "pattern": f"^{NAME.pattern}$",
                 "description": "Name of the suite, and of its run folder."},
        "description": {"type": "string", "description": "What the suite measures, in a sentence."},
        "models": {**axis["models"], **at_least_one, "description": "Models to prune."},
        "pruners": {**axis["pruners"], **at_least_one, "description": "Pruners, each at every sparsity."},
        "sparsities": {
            "type": "array", **at_least_one, "uniqueItems": True,
            "items": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            "description": "Shares of prunable weights to prune, in [0, 1); 0 is the dense model.",
        },
        "recipes": {**axis["recipes"], **at_least_one, "default": ["none"],
                    "description": "When to prune and when to train."},
        "seeds": {"type": "array", **at_least_one, "items": {"type": "integer", "minimum": 0}, "uniqueItems": True,
                  "default": [0], "description": "Each seed repeats every cell."},
        "tasks": {**axis["tasks"], **at_least_one, "description": "What is measured of each pruned model."},
        "metrics": {**axis["metrics"], "description": "Metrics added to those of the tasks, where they apply."},
        "data": {"anyOf": [{"$ref": "#/$defs/dataset"}, {"type": "null"}],
                 "description": "Data for scoring and training; by default each model's own."},
        "scope": {
            "type": "object", "additionalProperties": False, "description": "Which weights may be pruned.",
            "properties": {
                "head": {"type": "boolean", "default": True, "description": "Whether the classifier may be pruned."},
                "exclude": {"type": "array", "items": {"type": "string"}, "default": [],
                            "description": "Shell patterns of names of weights to keep dense."},
            },
        },
        "limit": {"anyOf": [positive, {"type": "null"}],
                  "description": "A rehearsal on so many samples of each data set."},
        "precision": {"enum": list(PRECISIONS), "default": FULL,
                      "description": "Of the tasks' forward passes; pruning and training have their own."},
        "batch_size": {**positive, "default": 128, "description": "Largest batch of the tasks."},
        "keep": {"enum": ["weights", ["weights"], "", None],
                 "description": "weights: keep all pruned networks in the run folder."},
    }  # fmt: skip


def _component(kind: Kind, registry: Registry, known: Sequence[tuple[Registration, Mapping[str, Any]]]) -> Any:
    """Return the schema of a reference: a name, or a mapping with ``use`` that decides which fields there are."""
    spellings = {_definition(registration): _spellings(registry, registration) for registration, _ in known}
    alone = [name for registration, fields in known if fields["required"] == ["use"]
             for name in spellings[_definition(registration)]]  # fmt: skip
    return {
        "anyOf": [
            {"enum": alone},
            {
                "type": "object",
                "required": ["use"],
                "properties": {"use": {"enum": [name for names in spellings.values() for name in names]}},
                "allOf": [
                    {"if": {"properties": {"use": {"enum": names}}}, "then": {"$ref": f"#/$defs/{definition}"}}
                    for definition, names in spellings.items()
                ],
            },
        ],
        "description": f"A {kind}: its name, or a mapping with `use:` and its fields.",
    }


def _spellings(registry: Registry, registration: Registration) -> list[str]:
    return list(dict.fromkeys([registry.name_of(registration), registration.full_name]))


def _definition(registration: Registration) -> str:
    """Return the key of a component's fields under ``$defs``; it holds no "/", which JSON pointers escape."""
    return f"{registration.kind}:{registration.plugin.distribution}:{registration.name}"


def _fields(registration: Registration) -> dict[str, Any] | None:
    """Return the schema of the mapping that uses a component; None if it cannot be imported."""
    try:
        component = registration.load()
        described, hints = describe_fields(component), field_types(component)
    except PluginError:
        return None
    summary = inspect.cleandoc(component.__doc__ or "").partition("\n")[0]
    properties: dict[str, Any] = {"use": {"description": summary}}
    for field in described:
        default = {} if field["required"] else {"default": field["default"]}
        properties[field["name"]] = {**of_type(hints[field["name"]]), "description": field["doc"], **default}
    axes = [key for key, kind in AXES.items() if kind == registration.kind]
    if axes and axes[0] in ALIASED:
        label = {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": LONGEST}
        properties[AS] = {**label, "description": "Label in tables; changes no result."}
    if axes and axes[0] in LIMITED:
        labels = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
        properties[FOR] = {**labels, "description": "Labels of the models that it is for; * stands for any text."}
    if axes and axes[0] in RESTRICTED:
        lists = {key: {"type": "array", "items": {"type": "number"}, "minItems": 1} for key in ("seeds", "sparsities")}
        only = {"type": "object", "properties": lists, "additionalProperties": False, "minProperties": 1}
        properties[ONLY] = {**only, "description": "Seeds and sparsities of the suite that it is for."}
    required = ["use", *(field["name"] for field in described if field["required"])]
    return {
        "type": "object",
        "title": registration.name,
        "description": summary,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def of_type(hint: Any) -> dict[str, Any]:
    """Return the schema of the values that a field of this type accepts."""
    referred = [mark.kind for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Refers)]
    if referred:
        return {"$ref": f"#/$defs/{referred[0]}"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return of_type(arguments[0])
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [of_type(argument) for argument in arguments]}
    if origin is tuple and arguments[-1] is not Ellipsis:
        size = {"minItems": len(arguments), "maxItems": len(arguments)}
        return {"type": "array", "prefixItems": [of_type(argument) for argument in arguments], **size}
    if origin in (tuple, list):
        return {"type": "array", "items": of_type(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": of_type(arguments[1])}
    return dict(_PLAIN.get(hint, {"type": "object"} if hint is dict else {}))


def schema_text(schema: Mapping[str, Any]) -> str:
    """Return a schema as the text of a file; the same schema always gives the same text."""
    return json.dumps(schema, indent=1, ensure_ascii=False, default=list) + "\n"
