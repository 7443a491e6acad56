"""``pruningbench leaderboard RUN...``."""

from __future__ import annotations

from pathlib import Path

import click

from pruningbench.cli.common import registry_with_warnings, say, table_width

FORMATS = {"table": "txt", "markdown": "md", "csv": "csv", "json": "json"}


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", type=click.Path(path_type=Path), help="Write leaderboard.<format> into this folder instead.")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), default="table", show_default=True)
@click.option(
    "--columns", metavar="NAMES",
    help="Add columns, by name and separated by commas: `pruningbench list columns` lists them.",
)  # fmt: skip
def leaderboard(runs: tuple[Path, ...], out: Path | None, format_: str, columns: str | None) -> int:
    """Make the leaderboard of run folders, submissions, or published results (hub:OWNER/NAME)."""
    from pruningbench.base.files import write_whole
    from pruningbench.errors import UsageError
    from pruningbench.leaderboard import build, render
    from pruningbench.leaderboard.results import load_results
    from pruningbench.store.origins import pinned

    width = table_width() if out is None else None
    asked = [name.strip() for name in (columns or "").split(",") if name.strip()]
    sources = pinned(runs)
    boards = build(load_results(sources, details=True), sources, columns=asked, registry=registry_with_warnings())
    text = render(boards, format_, width=width)
    if out is None:
        say(text)
        return 0
    path = out / f"leaderboard.{FORMATS[format_]}"
    try:
        write_whole(path, (text.rstrip("\n") + "\n").encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    say(str(path))
    return 0
