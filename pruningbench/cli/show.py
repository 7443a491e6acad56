"""``pruningbench show KIND NAME``."""

from __future__ import annotations

import dataclasses
import inspect
import json as jsonlib
import typing
from typing import TYPE_CHECKING, Any

import click

from pruningbench.cli.common import registry_with_warnings

if TYPE_CHECKING:
    from pruningbench.components.base import Component


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("--json", is_flag=True, help="For machines.")
def show(kind: str, name: str, json: bool) -> int:
    """Describe a component and its fields, or print a shipped suite."""
    from pruningbench.components.base import KINDS
    from pruningbench.errors import UsageError, did_you_mean
    from pruningbench.suite import find_suite

    kind = kind.removesuffix("s")
    if kind == "suite":
        click.echo(find_suite(name).read_text("utf-8").rstrip())
        return 0
    found = [k for k in KINDS if k == kind]
    if not found:
        hint = did_you_mean(kind, ["suite", *KINDS]) or f"; kinds are: suite, {', '.join(KINDS)}"
        raise UsageError(f"unknown kind {kind!r}{hint}")
    entry = registry_with_warnings().entry(found[0], name)
    component = entry.load()
    described: dict[str, Any] = {
        "kind": entry.kind,
        "name": entry.name,
        "class": entry.where,
        "plugin": entry.plugin.distribution,
        "plugin_version": entry.plugin.version,
        "version": component.version,
        "description": inspect.cleandoc(component.__doc__ or ""),
        "fields": describe_fields(component),
    }
    click.echo(jsonlib.dumps(described, indent=2) if json else _text(described))
    return 0


def describe_fields(component: type[Component]) -> list[dict[str, Any]]:
    """Return name, type, default, documentation and identity of each field."""
    hints = typing.get_type_hints(component, include_extras=True)
    fields = []
    for field in dataclasses.fields(component):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        fields.append(
            {
                "name": field.name,
                "type": _type_name(hints[field.name]),
                "required": required,
                "default": None if required else default,
                "doc": field.metadata.get("doc", ""),
                "identity": field.metadata.get("identity", True),
            }
        )
    return fields


def _type_name(hint: Any) -> str:
    """Return a type as a user of YAML would say it."""
    from pruningbench.components.base import Refers

    referred = [mark.kind for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Refers)]
    if referred:
        return f"{referred[0]} (a name, or a mapping with use:)"
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return f"list of {_type_name(typing.get_args(hint)[0])}"
    arguments = typing.get_args(hint)
    if arguments:
        return " | ".join(dict.fromkeys(_type_name(a) for a in arguments if a is not Ellipsis))
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true | false", "NoneType": "null",
            "dict": "mapping", "Any": "any"}.get(getattr(hint, "__name__", ""), str(hint))  # fmt: skip


def _text(described: dict[str, Any]) -> str:
    lines = [
        f"{described['kind']} {described['name']}  ({described['class']}, "
        f"{described['plugin']} {described['plugin_version']})",
        "",
        *(f"  {line}".rstrip() for line in described["description"].splitlines()),
        "",
    ]
    if not described["fields"]:
        return "\n".join([*lines, "It has no fields."])
    lines.append("Fields")
    for field in described["fields"]:
        default = "required" if field["required"] else f"default {jsonlib.dumps(field['default'])}"
        knob = "" if field["identity"] else "; a knob: it changes no result"
        lines.append(f"  {field['name']}: {field['type']}  ({default}{knob})")
        if field["doc"]:
            lines.append(f"      {field['doc']}")
    return "\n".join(lines)
