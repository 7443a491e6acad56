"""``pruningbench plugin new NAME --kind KIND``."""

from __future__ import annotations

from pathlib import Path

import click

from pruningbench.cli.common import say


@click.group()
def plugin() -> None:
    """Make a new plugin."""


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
