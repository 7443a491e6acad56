"""Generates the reference of components from their docstrings and fields, for `show` and for the documentation."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pruningbench.base.files import write_whole
from pruningbench.base.text import displayable_lines
from pruningbench.contract.component import Component, Kind, Refers, fields_in_order
from pruningbench.errors import PluginError, UsageError
from pruningbench.plugins import Registration, Registry

GENERATED = "<!-- made by `pruningbench show {kinds} --update {file}`: what is below this line is overwritten -->"
_MARK = "<!-- made by `pruningbench show "
_PARTS = re.compile(r"(?:^|(?<=\. ))(Cost(?=[:,])|Sources?(?=:)|Needs)\b[:,]? ")
_ORDER = " Higher = keep."


@dataclasses.dataclass(frozen=True)
class Description:
    """The content of a component's docstring.

    Attributes:
        summary: the first line.
        body: the rest without the parts below, one string per paragraph. A list is one paragraph with one
            line per item.
        cost: what follows "Cost:", or "".
        needs: what follows "Needs", or "", without the note "Higher = keep.".
        sources: what follows "Source:" or "Sources:", or "".
    """

    summary: str
    body: tuple[str, ...]
    cost: str
    needs: str
    sources: str

    @property
    def has_formula(self) -> bool:
        """Whether the text has a formula: code in double backticks, or "Formula:"."""
        return any("``" in paragraph or "Formula:" in paragraph for paragraph in (self.summary, *self.body))


def describe(component: type[Component]) -> Description:
    """Split a component's docstring; Cost, Needs and Source each begin a part that ends where the next part begins."""
    first, _, remainder = inspect.cleandoc(component.__doc__ or "").partition("\n")
    body, parts = [], {"Cost": "", "Needs": "", "Source": ""}
    for paragraph in re.split(r"\n\s*\n", remainder.strip()):
        if paragraph.lstrip().startswith("* "):
            body.append(_list_items(paragraph))
            continue
        text, *sections = _PARTS.split(" ".join(paragraph.split()))
        if text.strip():
            body.append(text.strip())
        for word, content in zip(sections[::2], sections[1::2], strict=True):
            key = word.removesuffix("s") if word.startswith("Source") else word
            parts[key] = f"{parts[key]} {content.strip().replace(_ORDER, '')}".strip()
    return Description(first, tuple(body), parts["Cost"], parts["Needs"], parts["Source"])


def _list_items(paragraph: str) -> str:
    """Return a paragraph of ``* item`` entries with one line per item."""
    items = re.split(r"(?:^|\n)\s*\* ", paragraph)
    return "\n".join(f"* {' '.join(item.split())}" for item in items if item.strip())


def describe_fields(component: type[Component]) -> list[dict[str, Any]]:
    """Return the name, type, default, documentation and identity of each field."""
    hints = field_types(component)
    fields = []
    for field in fields_in_order(component):
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


def field_types(component: type[Component]) -> dict[str, Any]:
    """Return the type of each field, with the marks of those that name other components.

    Raises:
        PluginError: if an annotation names something that exists only for type checkers.
    """
    try:
        return typing.get_type_hints(component, include_extras=True)
    except NameError as error:
        where = f"{component.__module__}:{component.__qualname__}"
        raise PluginError(
            f"{where}: its annotations cannot be read ({error}); import what they name outside `if TYPE_CHECKING`"
        ) from error


def _type_name(hint: Any) -> str:
    """Return the name of a type in the words of a YAML user."""
    referred = [mark.kind for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Refers)]
    if referred:
        return f"{referred[0]} (a name, or a mapping with use:)"
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (tuple, list):
        item = _type_name(arguments[0])
        return f"list of ({item})" if " | " in item else f"list of {item}"
    if typing.get_origin(hint) is dict:
        return f"mapping of {_type_name(arguments[0])} to {_type_name(arguments[1])}"
    if arguments:
        return " | ".join(dict.fromkeys(_type_name(a) for a in arguments if a is not Ellipsis))
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true | false", "NoneType": "null",
            "dict": "mapping", "Any": "any"}.get(getattr(hint, "__name__", ""), str(hint))  # fmt: skip


def as_markdown(registry: Registry, kind: Kind, *, names: Iterable[str] | None = None, plugin: str = "") -> str:
    """Return the reference of components as markdown: a table of all, then a section with the fields of each.

    Args:
        registry: where they are registered.
        kind: the kind of component.
        names: the components to describe; all by default.
        plugin: if given, describe only the components of this distribution.

    Raises:
        UnknownComponentError: for a name that is not registered.
        PluginError: for a component that cannot be imported.
    """
    entries = [registry.entry(kind, name) for name in (registry.names(kind) if names is None else names)]
    entries = [entry for entry in entries if not plugin or entry.plugin.distribution == plugin]
    sections = [_section(entry) for entry in entries]
    if len(entries) == 1:
        return sections[0]
    rows = [f"| [`{e.name}`](#{e.name}) | {_cell(_text(describe(e.load()).summary))} |" for e in entries]
    return "\n\n".join([f"| {kind} | |\n|---|---|\n" + "\n".join(rows), *sections])


def update(path: Path, generated: str, kind: Kind) -> None:
    """Write generated text below the marker of a file; text above the marker stays.

    Raises:
        UsageError: if the file exists without a marker, so that handwritten text is never overwritten.
    """
    mark = GENERATED.format(kinds=f"{kind}s", file=f"docs/{path.name}")
    head = f"# {kind.capitalize()}s\n\n"
    if path.exists():
        text = path.read_text("utf-8")
        if _MARK not in text:
            raise UsageError(f"{path} has no line {mark!r}: add it where the reference should begin")
        head = text.partition(_MARK)[0]
    write_whole(path, f"{head}{mark}\n\n{displayable_lines(generated.rstrip())}\n".encode())


def below_the_marker(text: str) -> str | None:
    """Return what `update` wrote into a file's text, or None if there is no marker."""
    _, mark, rest = text.partition(_MARK)
    return rest.partition("\n")[2].strip() + "\n" if mark else None


def _section(entry: Registration) -> str:
    component = entry.load()
    description = describe(component)
    lines = [f"## {entry.name}", "", f"**{_text(description.summary)}**", ""]
    for paragraph in description.body:
        lines += [_text(paragraph), ""]
    for title, part in (("Cost", description.cost), ("Needs", description.needs), ("Sources", description.sources)):
        if part:
            lines.append(f"* {title}: {_text(part)}")
    notes = _promises(component)
    lines += [f"* {note}" for note in notes]
    if lines[-1]:
        lines.append("")
    fields = describe_fields(component)
    if fields:
        lines += ["| field | default | type | meaning |", "|---|---|---|---|"]
        lines += [_row(field) for field in fields]
    else:
        lines.append("It has no fields.")
    return "\n".join(lines).rstrip()


def _promises(component: type[Component]) -> list[str]:
    """Return notes on a task's dimension, and on unusual properties that a pruner's class declares for its masks."""
    notes = []
    dimension = getattr(component, "dimension", "")
    if dimension:
        notes.append(f"Dimension: {dimension}.")
    if getattr(component, "exact", True) is False:
        notes.append("The number of pruned weights follows the pattern, not exactly the requested sparsity.")
    if getattr(component, "updates_weights", False):
        notes.append("Changes weights that are kept.")
    return notes


def _row(field: dict[str, Any]) -> str:
    default = "required" if field["required"] else f"`{_cell(json.dumps(field['default']))}`"
    knob = "" if field["identity"] else " It does not change results."
    doc = _cell(_text(field["doc"]))
    return f"| `{field['name']}` | {default} | {_cell(field['type'])} | {doc}{'.' if knob else ''}{knob} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _text(text: str) -> str:
    return text.replace("``", "`")
