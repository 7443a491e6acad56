"""``pruningbench list [KIND]``."""

from __future__ import annotations

import itertools
import re

import click

from pruningbench.base.text import displayable
from pruningbench.cli.common import registry_with_warnings, say, say_json


@click.command("list")
@click.argument("kind", required=False)
@click.option("--json", is_flag=True, help="For machines.")
def list_(kind: str | None, json: bool) -> int:
    """List suites and components; KIND is suites, models, datasets, pruners, recipes, tasks or metrics."""
    from pruningbench.contract.component import KINDS
    from pruningbench.errors import UsageError, did_you_mean
    from pruningbench.suite.schema import shipped_suites

    wanted = None
    if kind is not None:
        wanted = kind.removesuffix("s")
        if wanted not in ("suite", *KINDS):
            known = ["suites", *(f"{k}s" for k in KINDS)]
            hint = did_you_mean(kind, known) or f"; kinds are: {', '.join(known)}"
            raise UsageError(f"unknown kind {kind!r}{hint}")
    rows = [
        {"kind": entry.kind, "name": entry.name, "summary": entry.summary(),
         "plugin": entry.plugin.distribution, "version": entry.plugin.version}
        for entry in registry_with_warnings()
    ]  # fmt: skip
    from pruningbench.version import __version__

    for name, path in shipped_suites().items():
        row = {"kind": "suite", "name": name, "summary": _description(path.read_text("utf-8")),
               "plugin": "pruningbench", "version": __version__}  # fmt: skip
        rows.insert(0, row)
    rows = [row for row in rows if wanted in (None, row["kind"])]
    if json:
        say_json(rows)
    else:
        say(_text(rows))
    return 0


def _description(text: str) -> str:
    """Return the first sentence of a shipped suite's description without parsing all of the suite."""
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
