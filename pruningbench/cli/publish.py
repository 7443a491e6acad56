"""``pruningbench publish DIR --repo OWNER/NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pruningbench.cli.common import registry_with_warnings, say

if TYPE_CHECKING:
    from pruningbench.publishing.publishing import Pushed

NOUNS = {"dataset": "data set", "space": "space"}


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path), metavar="DIR")
@click.option("--repo", required=True, metavar="OWNER/NAME", help="The data set, and the space with the site.")
@click.option("--private", is_flag=True, help="Create private repositories; refuse public ones.")
@click.option("--no-site", is_flag=True, help="Publish the data set only.")
@click.option("--licence", default="cc-by-4.0", show_default=True, help="Licence of the results.")
@click.option("--message", default="", help="First line of the commits; names the submissions by default.")
@click.option(
    "--replace", is_flag=True, help="Remove submissions whose values a new one holds: earlier states of a run."
)
@click.option("--dry-run", is_flag=True, help="List the files with their sizes; ask and write nothing.")
def publish(
    folder: Path, repo: str, private: bool, no_site: bool, licence: str, message: str, replace: bool, dry_run: bool
) -> int:
    """Publish runs, submissions or a site on a hub: a data set, and a space with pages to browse.

    DIR is a run folder, a submission, a folder of several, or the folder of a site. The token is the one that
    huggingface-hub keeps (`hf auth login`, or HF_TOKEN).
    """
    from pruningbench.publishing.publishing import publish as publish_results

    pushed = publish_results(
        folder, repo, registry_with_warnings(), private=private, with_site=not no_site, licence=licence,
        message=message, replace=replace, dry_run=dry_run,
    )  # fmt: skip
    for one in pushed:
        _show(one, repo, listed=dry_run)
    if dry_run:
        say("nothing was sent; tables and site will also show what is published there already")
    return 0


def _show(pushed: Pushed, repo: str, *, listed: bool) -> None:
    total = sum(pushed.sizes.values())
    counts = f"{len(pushed.sizes)} files, {total / 1e6:.2f} MB"
    removed = f", {len(pushed.deleted)} removed" if pushed.deleted else ""
    if pushed.commit:
        say(f"{NOUNS[pushed.kind]}  {pushed.page}  commit {pushed.commit[:12]} ({counts}{removed})")
    else:
        say(f"{NOUNS[pushed.kind]}  {repo} ({counts})")
    if listed:
        for name, size in pushed.sizes.items():
            say(f"{size:>12,}  {name}")
