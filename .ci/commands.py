"""Write docs/commands.md: the help of every command, as the command line prints it.

Run it after any change of a command; a test fails if the page is not up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pruningbench.cli.main import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
WIDTH = 100
HEAD = """# Commands

<!-- made by `python .ci/commands.py`: the whole page is overwritten -->

Every page of `pruningbench COMMAND --help`. `-h` is short for `--help`. Exit codes: 0, all cells are ok, or the command
did what it says; 1, some cells are not ok, or a check failed; 2, the request was wrong and nothing ran; 130,
interrupted, and the same command continues.
"""


def commands(group: click.Group, parent: click.Context) -> Iterator[tuple[str, str]]:
    """Yield each command below a group as (its name, its help), depth first, in the order of the group's help."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, parent, name, terminal_width=WIDTH, **command.context_settings)
        yield context.command_path, command.get_help(context)
        if isinstance(command, click.Group):
            yield from commands(command, context)


def page() -> str:
    """Return the whole page."""
    top = click.Context(cli, info_name="pruningbench", terminal_width=WIDTH, **cli.context_settings)
    sections = [("pruningbench", cli.get_help(top)), *commands(cli, top)]
    return HEAD + "".join(f"\n## {name}\n\n```text\n{text.rstrip()}\n```\n" for name, text in sections)


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
