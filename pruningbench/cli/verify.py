"""``pruningbench verify FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pruningbench.base.text import displayable
from pruningbench.cli.common import complain, registry_with_warnings, say, say_json

if TYPE_CHECKING:
    from pruningbench.store.trust import Verification

MARKS = {True: "ok", False: "FAILED", None: "-"}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--rerun", "count", type=click.IntRange(min=0), default=0, metavar="N", help="Compute N random cells again."
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of the choice of cells; by default nobody knows it before."
)
@click.option("--device", default="auto", show_default=True, help="Where to compute: cpu, cuda, cuda:N, mps or auto.")
@click.option("--run-code", is_flag=True, help="Also re-run suites whose models run code outside any plugin.")
@click.option("--record/--no-record", default=True, show_default=True, help="Write the outcome beside FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--progress", type=click.Choice(["rich", "plain", "none"]), help="Of a re-run; by default rich on a terminal."
)
def verify(
    file: Path,
    count: int,
    seed: int | None,
    device: str,
    run_code: bool,
    record: bool,
    as_json: bool,
    progress: str | None,
) -> int:
    """Check the submission FILE: is it complete, unchanged and possible, and do its values follow from its samples?

    Exit code 1 if a check fails. The outcome is written to NAME.verified.json beside FILE, and rows of the submission
    say `checked` or `re-run (n of m cells)` instead of `self-reported`.
    """
    from pruningbench.cli.progress import make_observer
    from pruningbench.publishing.verifying import NOTHING, Again
    from pruningbench.publishing.verifying import verify as check

    observer = make_observer(progress) if count else None
    outcome = check(file, registry_with_warnings(), Again(count, seed, device, run_code), observer)
    if as_json:
        say_json({**outcome.model_dump(), "passed": outcome.passed, "trust": outcome.word})
    else:
        _report(file, outcome)
    if record and outcome.submission != NOTHING:
        _record(file, outcome, quiet=as_json)
    return 0 if outcome.passed else 1


def _report(file: Path, outcome: Verification) -> None:
    width = max(len(check.name) for check in outcome.checks)
    for check in outcome.checks:
        say(displayable(f"{MARKS[check.passed]:6}  {check.name:{width}}  {check.detail}"))
    say(displayable(f"{file}: {outcome.word}"))


def _record(file: Path, outcome: Verification, *, quiet: bool) -> None:
    from pruningbench.store.trust import verification_file, write_verification

    try:
        written = write_verification(file, outcome)
    except OSError as error:
        complain("warning", f"{verification_file(file)}: cannot be written ({error.strerror})")
        return
    if not quiet:
        say(f"written to {written}")
