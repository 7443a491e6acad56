"""``pruningbench plugin new NAME --kind KIND`` and ``pruningbench plugin check PLUGIN``."""

from __future__ import annotations

from pathlib import Path

import click

from pruningbench.cli.common import say, say_json


@click.group()
def plugin() -> None:
    """Make a new plugin, or check one."""


@plugin.command()
@click.argument("name")
@click.option("--kind", required=True, metavar="KIND", help="Kind: pruner, model, task, metric, dataset, recipe, "
              "attribution-method (or method) or discovery-method.")  # fmt: skip
@click.option(
    "--in", "parent", type=click.Path(path_type=Path), default=Path(),
    help="Folder in which the package's folder is made; this folder by default.",
)  # fmt: skip
def new(name: str, kind: str, parent: Path) -> int:
    """Make a package with a working component of a KIND, its tests and an example suite."""
    from pruningbench.scaffold import new_plugin

    folder = new_plugin(name, kind, parent)
    say(f"made         {folder}")
    say(f"next         cd {folder} && pip install -e '.[test]' && pytest")
    say("then         pruningbench run suite.yaml")
    return 0


@plugin.command("check")
@click.argument("plugin_name", metavar="PLUGIN")
@click.option("--json", is_flag=True, help="Print JSON.")
def check_(plugin_name: str, json: bool) -> int:
    """Check that PLUGIN, a distribution or a module, keeps the contract; exit code 1 if it does not.

    Its import is checked in a process of its own, and each component with its example: documentation, fields, exact
    sparsity, determinism, what it leaves behind, batches, half precision, and more. Each finding says what is wrong,
    why it matters, and what to do.
    """
    from dataclasses import asdict

    from pruningbench.plugins import load_registry
    from pruningbench.testing import package_findings
    from pruningbench.testing.packages import registrations_of

    checked = [f"{r.kind} {r.name}" for r in registrations_of(plugin_name, load_registry())]
    found = list(package_findings(plugin_name))
    if json:
        say_json({"plugin": plugin_name, "checked": checked, "findings": [asdict(finding) for finding in found]})
        return int(bool(found))
    for finding in found:
        say(f"{finding}\n")
    count = "1 finding" if len(found) == 1 else f"{len(found)} findings"
    kept = f"{len(checked)} components keep the contract"
    say(f"{plugin_name}: {f'{count} on {len(checked)} components' if found else kept}")
    return int(bool(found))
