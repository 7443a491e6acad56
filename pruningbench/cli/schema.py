"""``pruningbench schema``."""

from __future__ import annotations

from pathlib import Path

import click

from pruningbench.cli.common import registry_with_warnings, say, say_json


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the schema to this file.")
@click.option("--built-in", is_flag=True, help="Leave out the components of other plugins.")
def schema(out: Path | None, built_in: bool) -> int:
    """Print the JSON Schema of suites, with every installed component and field.

    An editor that knows YAML completes and checks a suite whose first line is
    `# yaml-language-server: $schema=suite.schema.json`.
    """
    from pruningbench.suite.jsonschema import schema_text, suite_schema

    made = suite_schema(registry_with_warnings(), only_built_in=built_in)
    if out is None:
        say_json(made)
    else:
        from pruningbench.base.files import write_whole

        write_whole(out, schema_text(made).encode())
        say(f"schema       {out}")
    return 0
