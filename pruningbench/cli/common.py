"""What several commands share."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pruningbench.plugins import Registry

set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="Change the suite, e.g. --set sparsities=[0,.9] or --set recipes.1.epochs=5. Repeatable.",
)  # fmt: skip
only_option = click.option(
    "--only", multiple=True, metavar="KIND=LABEL",
    help="Only these cells or tasks, by exact label (* is any text), e.g. --only model=digits-vit. Repeatable.",
)  # fmt: skip
not_option = click.option(
    "--not", "without", multiple=True, metavar="KIND=LABEL",
    help="All but these cells or tasks, e.g. --not pruner=random. Repeatable.",
)  # fmt: skip
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N",
    help="A rehearsal on N samples of each data set, in a run folder of its own.",
)  # fmt: skip


def with_limit(settings: tuple[str, ...], limit: int | None) -> tuple[str, ...]:
    """Return settings of a suite with those of ``--limit`` after them."""
    return settings if limit is None else (*settings, f"limit={limit}")


def parse_shard(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse ``I/N`` with 1 <= I <= N."""
    if value is None:
        return None
    index, slash, count = value.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise click.BadParameter(f"{value!r} must be I/N with 1 <= I <= N, for example 1/4")
    return int(index), int(count)


def table_width() -> int | None:
    """Return the columns of the terminal that standard output is, or None when it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def registry_with_warnings() -> Registry:
    """Load the plugins and say which ones are broken."""
    from pruningbench.plugins import load_registry

    registry = load_registry()
    for broken in registry.broken:
        click.echo(f"warning: plugin {broken.plugin} is left out or incomplete: {broken.reason}", err=True)
    return registry
