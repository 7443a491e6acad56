"""``pruningbench merge RUN... --out DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from pruningbench.cli.common import LocalPath, RunPath, complain, say


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RunPath())
@click.option("--out", required=True, type=LocalPath(), help="The new run folder.")
def merge(runs: tuple[Path | str, ...], out: Path) -> int:
    """Make one run folder from several RUNS of the same suite, such as its shards; folders or URLs.

    The folders stay as they are. The merged folder can be continued with `pruningbench run SUITE --out DIR`.
    """
    from pruningbench.harness.merging import merge as merged_folder

    done = merged_folder(runs, out)
    if done.differing:
        complain(
            "warning",
            f"{done.differing} task runs have other values in another folder; those of the first folder are kept",
        )
    repeated = f", {done.repeated} of them in several folders" if done.repeated else ""
    say(f"{out}: {done.task_runs} task runs{repeated}")
    return 0
