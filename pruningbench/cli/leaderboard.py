"""``pruningbench leaderboard RUN...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pruningbench.cli.common import (
    LocalPath,
    RunPath,
    few_collections,
    registry_with_warnings,
    say,
    say_lines,
    table_width,
)

if TYPE_CHECKING:
    from pruningbench.plugins import Registry

FORMATS = {"table": "txt", "markdown": "md", "csv": "csv", "json": "json", "latex": "tex", "parquet": "parquet"}
ALL = "all"
"""Name that stands for all metrics."""


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RunPath(), metavar="RUN...")
@click.option("--out", type=LocalPath(), help="Write leaderboard.<format> into this folder instead.")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), default="table", show_default=True)
@click.option(
    "--columns", metavar="NAMES", default="",
    help="Show these metrics, and add these columns (`pruningbench list columns`), separated by commas; `all` shows "
    "all metrics.",
)  # fmt: skip
@click.option(
    "--where", metavar="CONDITION", default="",
    help='Show only these rows, e.g. --where "sparsity>=.8 and model=digits-vit".',
)  # fmt: skip
@click.option("--sort", metavar="COLUMN", default="", help="Sort the rows of each model; COLUMN:desc for descending.")
@click.option(
    "--width", type=click.IntRange(min=40), metavar="N", help="Width of the table; the terminal's by default."
)
@few_collections()
def leaderboard(
    runs: tuple[Path | str, ...], out: Path | None, format_: str, columns: str, where: str, sort: str, width: int | None
) -> int:
    """Make the leaderboard of run folders or their URLs, submissions, or published results (hub:OWNER/NAME)."""
    from pruningbench.base.files import write_whole
    from pruningbench.base.text import displayable_lines
    from pruningbench.errors import UsageError
    from pruningbench.leaderboard import build, render
    from pruningbench.leaderboard.longform import parquet_bytes
    from pruningbench.leaderboard.results import load_measurements
    from pruningbench.leaderboard.selection import select
    from pruningbench.store.origins import pinned

    if format_ == "parquet" and out is None:
        raise UsageError("--format parquet is binary: write it into a folder with --out DIR")
    registry = registry_with_warnings()
    metrics, further, everything = _columns(columns, registry)
    sources = pinned(runs)
    whole = build(load_measurements(sources), sources, columns=further, registry=registry)
    boards = select(whole, where=where, columns=metrics, sort=sort, others=registry.names("column"))
    if format_ == "table":
        from pruningbench.leaderboard.text import terminal_lines

        shown_width = width or (table_width() if out is None else None)
        lines = terminal_lines(boards, shown_width, all_columns=everything or bool(metrics), whole=whole)
    elif format_ == "parquet":
        lines = []
    else:
        lines = [(render(boards, format_), False)]
    if out is None:
        say_lines(lines)
        return 0
    text = displayable_lines("\n".join(line for line, _ in lines)).rstrip("\n") + "\n"
    path = out / f"leaderboard.{FORMATS[format_]}"
    try:
        write_whole(path, parquet_bytes(boards) if format_ == "parquet" else text.encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    say(str(path))
    return 0


def _columns(names: str, registry: Registry) -> tuple[list[str], list[str], bool]:
    """Return the names of metrics, the names of registered columns, and whether all metrics are asked for."""
    from pruningbench.leaderboard.labels import split_labels

    listed = split_labels(names)
    further = [name for name in listed if name.rpartition("/")[2] in registry.entries["column"]]
    metrics = [name for name in listed if name not in further and name != ALL]
    return metrics, further, ALL in listed
