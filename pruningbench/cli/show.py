"""``pruningbench show KIND NAME``."""

from __future__ import annotations

import inspect
import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pruningbench.base.text import displayable
from pruningbench.cli.common import registry_with_warnings, say, say_json
from pruningbench.cli.completion import components, kinds

if TYPE_CHECKING:
    from pruningbench.contract.component import Kind
    from pruningbench.plugins import Registration, Registry


@click.command()
@click.argument("kind", shell_complete=kinds)
@click.argument("name", required=False, shell_complete=components)
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
        "example": _example(registry, matches[0], entry),
    }
    if json:
        say_json(described)
    else:
        say(_text(described))
    return 0


def _example(registry: Registry, kind: Kind, entry: Registration) -> str:
    """Return lines of a suite that use a component, and of Python for a pruner; "" if there is no example."""
    from pruningbench.suite.binding import BindingError
    from pruningbench.suite.examples import as_yaml, example_of

    try:
        example = example_of(registry, kind, entry)
    except BindingError:
        return ""
    text = as_yaml(kind, example)
    if kind == "pruner":
        fields = [] if isinstance(example, str) else [f"{key}={v!r}" for key, v in example.items() if key != "use"]
        arguments = ", ".join([f'"{registry.name_of(entry)}"', "sparsity=0.8", *fields])
        text += f"\n\npruningbench.prune(network, {arguments})   # Python"
    return text


def _text(described: dict[str, Any]) -> str:
    lines = [
        f"{described['kind']} {described['name']}  ({described['class']}, "
        f"{described['plugin']} {described['plugin_version']})",
        "",
        *(f"  {line}".rstrip() for line in described["description"].splitlines()),
        "",
    ]
    lines.append("Fields" if described["fields"] else "It has no fields.")
    for field in described["fields"]:
        default = "required" if field["required"] else f"default {jsonlib.dumps(field['default'])}"
        knob = "" if field["identity"] else "; does not change results"
        lines.append(f"  {field['name']}: {field['type']}  ({default}{knob})")
        if field["doc"]:
            lines.append(f"      {field['doc']}")
    if described["example"]:
        lines += ["", "Example", *(f"  {line}".rstrip() for line in described["example"].splitlines())]
    return "\n".join(map(displayable, lines))
