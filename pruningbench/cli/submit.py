"""``pruningbench submit RUN``."""

from __future__ import annotations

from pathlib import Path

import click

from pruningbench.cli.common import registry_with_warnings, say


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The file, or a folder for it; NAME.pbsub.zip by default.")
@click.option("--name", default="", help="Name of the submission in tables; the suite's name by default.")
def submit(run: Path, out: Path | None, name: str) -> int:
    """Make one file of a finished run, for others to read, check and merge.

    It holds records, per-sample values, suite, versions and hashes of masks: no images, weights, paths or names of
    users and hosts. `leaderboard`, `compare` and `site` read it like a run folder; `verify` checks it.
    """
    from pruningbench.publishing.submitting import submit as make

    path = make(run, registry_with_warnings(), out, name=name)
    say(f"submission   {path} ({path.stat().st_size:,} bytes)")
    say(f"check it     pruningbench verify {path}")
    return 0
