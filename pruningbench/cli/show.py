"""``pruningbench show KIND NAME``."""

from __future__ import annotations

import inspect
import json as jsonlib
from pathlib import Path
from typing import Any

import click

from pruningbench.base.text import displayable
from pruningbench.cli.common import registry_with_warnings, say, say_json


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("--json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print Markdown; without NAME, for all components of the kind.")
@click.option(
    "--update", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Write the markdown of all components below the marker of FILE.",
)  # fmt: skip
def show(kind: str, name: str | None, json: bool, markdown: bool, update: Path | None) -> int:
    """Describe a component and its fields, or print a shipped suite."""
    from pruningbench.contract.component import KINDS
    from pruningbench.errors import UsageError, did_you_mean
    from pruningbench.suite import reference
    from pruningbench.suite.schema import find_suite

    kind = kind.removesuffix("s")
    if kind == "suite" and name:
        path, _ = find_suite(name, registry_with_warnings())
        say(path.read_text("utf-8").rstrip())
        return 0
    matches = [k for k in KINDS if k == kind]
    if not matches and kind != "suite":
        hint = did_you_mean(kind, ["suite", *KINDS]) or f"; kinds are: suite, {', '.join(KINDS)}"
        raise UsageError(f"unknown kind {kind!r}{hint}")
    if matches and (markdown or update):
        text = reference.as_markdown(registry_with_warnings(), matches[0], names=[name] if name else None)
        if update:
            reference.update(update, text, matches[0])
        else:
            say(text)
        return 0
    if name is None:
        raise UsageError(f"name a {kind}: `pruningbench list {kind}s` lists them")
    registry = registry_with_warnings()
    entry = registry.entry(matches[0], name)
    component = entry.load()
    described: dict[str, Any] = {
        "kind": entry.kind,
        "name": registry.name_of(entry),
        "class": entry.where,
        "plugin": entry.plugin.distribution,
        "plugin_version": entry.plugin.version,
        "version": component.version,
        "description": inspect.cleandoc(component.__doc__ or ""),
        "fields": reference.describe_fields(component),
    }
    if json:
        say_json(described)
    else:
        say(_text(described))
    return 0


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
        knob = "" if field["identity"] else "; does not change results"
        lines.append(f"  {field['name']}: {field['type']}  ({default}{knob})")
        if field["doc"]:
            lines.append(f"      {field['doc']}")
    return "\n".join(map(displayable, lines))
