"""``pruningbench site RUN... --out DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from pruningbench.cli.common import LocalPath, RunPath, few_collections, registry_with_warnings, say


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RunPath(), metavar="RUN...")
@click.option("--out", required=True, type=LocalPath(), help="Folder of the site; an earlier site is replaced.")
@click.option("--title", help="Name of the site; by default the names of the suites.")
@few_collections()
def site(runs: tuple[Path | str, ...], out: Path, title: str | None) -> int:
    """Make a folder of pages that opens from disk: answers, table, curves, and a page for each component and run."""
    from pruningbench.site import build_site
    from pruningbench.store.origins import pinned

    built = build_site(pinned(runs), out, title=title, registry=registry_with_warnings())
    say(f"site  {built.folder / 'index.html'} ({built.files} files, {built.size / 1e6:.1f} MB)")
    return 0
