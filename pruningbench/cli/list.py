"""``pruningbench list [KIND]``."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import click

from pruningbench.base.text import displayable
from pruningbench.cli.common import registry_with_warnings, say, say_json
from pruningbench.cli.completion import kinds

if TYPE_CHECKING:
    from pruningbench.plugins import Registration


@click.command("list")
@click.argument("kind", required=False, shell_complete=kinds)
@click.option("--search", default="", metavar="TEXT", help="Only those whose name or summary contains these words.")
@click.option("--json", is_flag=True, help="Print JSON.")
def list_(kind: str | None, search: str, json: bool) -> int:
    """List suites, components and everything else that plugins add; KIND is suites, models, datasets, pruners, ..."""
    from pruningbench.contract.component import KINDS
    from pruningbench.errors import UsageError, did_you_mean
    from pruningbench.plugins import EXTENSIONS

    kinds = ("suite", *KINDS, *EXTENSIONS[1:])
    selected = kinds if kind is None else tuple(k for k in kinds if k == kind.removesuffix("s"))
    if not selected:
        plurals = [f"{k}s" for k in kinds]
        hint = did_you_mean(str(kind), plurals) or f"; kinds are: {', '.join(plurals)}"
        raise UsageError(f"unknown kind {kind!r}{hint}")
    registry = registry_with_warnings()
    rows = [
        {"kind": entry.kind, "name": registry.name_of(entry), "summary": _summary(entry),
         "plugin": entry.plugin.distribution, "version": entry.plugin.version}
        for each_kind in selected for entry in registry.registrations(each_kind)
    ]  # fmt: skip
    words = search.lower().split()
    texts = [" ".join((row["kind"], row["name"], row["summary"])).lower() for row in rows]
    rows = [row for row, text in zip(rows, texts, strict=True) if all(word in text for word in words)]
    if json:
        say_json(rows)
    else:
        say(_text(rows))
    return 0


def _summary(entry: Registration) -> str:
    if entry.kind != "suite":
        return entry.summary()
    try:
        return _description(entry.load().read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return "its file cannot be read"


def _description(text: str) -> str:
    """Return the first sentence of a shipped suite's description without parsing the whole suite."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("description:"):
            value = line.partition(":")[2].strip()
            if value[:1] in (">", "|"):  # a YAML block: the indented lines that follow
                block = itertools.takewhile(lambda text: not text.strip() or text[:1].isspace(), lines[number + 1 :])
                value = " ".join(" ".join(block).split())
            return re.split(r"(?<=[a-z0-9)])[.;] ", value.strip("\"'"))[0]
    return ""


def _text(rows: list[dict[str, str]]) -> str:
    width = max((len(row["name"]) for row in rows), default=0)
    lines: list[str] = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        lines += ["", f"{kind}s"]
        for row in rows:
            if row["kind"] == kind:
                foreign = "" if row["plugin"] == "pruningbench" else f"  [{row['plugin']} {row['version']}]"
                lines.append(f"  {row['name']:<{width}}  {row['summary']}{foreign}")
    return "\n".join(map(displayable, lines[1:])) if lines else "none"
