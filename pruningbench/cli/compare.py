"""``pruningbench compare BEFORE AFTER``."""

from __future__ import annotations

from pathlib import Path

import click

from pruningbench.cli.common import few_collections, say


@click.command()
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option(
    "--fail-on", type=click.Choice(["worse", "missing", "any", "none"]), default="worse", show_default=True,
    help="What makes the command exit with 1: a value that is significantly worse; a missing value; any of these, or "
    "one that is not comparable; nothing.",
)  # fmt: skip
@click.option(
    "--margin", "margins", multiple=True, metavar="[METRIC=]VALUE",
    help="Largest loss to accept, e.g. .01 for all metrics in [0, 1], or deletion=.02. Repeatable.",
)  # fmt: skip
@click.option(
    "--where", metavar="CONDITION", default="",
    help='Compare only these values, e.g. --where "sparsity<=.9 and unit!=ms".',
)  # fmt: skip
@click.option("--other-weights", is_flag=True, help="Compare models whose dense weights differ as well.")
@click.option("--format", "format_", type=click.Choice(["table", "markdown", "json"]), default="table",
              show_default=True)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead.")
@few_collections()
def compare(
    before: str,
    after: str,
    fail_on: str,
    margins: tuple[str, ...],
    where: str,
    other_weights: bool,
    format_: str,
    out: Path | None,
) -> int:
    """Show what is better, worse, new or gone in AFTER; exit with 1 if something is worse.

    BEFORE and AFTER are run folders, submission files, or published results (hub:OWNER/NAME).
    """
    from pruningbench.base.files import write_whole
    from pruningbench.errors import UsageError
    from pruningbench.leaderboard.comparing import compare as compare_results
    from pruningbench.leaderboard.contrast_formats import render_contrast

    contrast = compare_results(before, after, margin=_margin(margins), other_weights=other_weights, where=where)
    text = render_contrast(contrast, format_, fail_on=fail_on)
    if out is None:
        say(text)
    else:
        try:
            write_whole(out, (text + "\n").encode())
        except OSError as error:
            raise UsageError(f"{out}: cannot be written ({error.strerror})") from None
        say(f"{contrast.headline(fail_on)}\n{out}")
    return 1 if contrast.failure(fail_on) else 0


def _margin(texts: tuple[str, ...]) -> float | dict[str, float] | None:
    """Parse ``VALUE`` or ``METRIC=VALUE``, repeatable for metrics.

    Raises:
        click.BadParameter: for anything else, or a value with and values without a metric.
    """
    named: dict[str, float] = {}
    plain: list[float] = []
    for text in texts:
        metric, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            message = f"{text!r} must be VALUE or METRIC=VALUE, for example .01"
            raise click.BadParameter(message, param_hint="--margin") from None
        if metric:
            named[metric] = number
        else:
            plain.append(number)
    if len(plain) > 1 or (plain and named):
        raise click.BadParameter("give one VALUE for all metrics, or METRIC=VALUE for each", param_hint="--margin")
    return plain[0] if plain else named or None
