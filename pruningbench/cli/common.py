"""Options and helpers that several commands share, and the functions that all of them print with."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pruningbench.base.text import displayable, displayable_json, displayable_lines

if TYPE_CHECKING:
    from pruningbench.plugins import Registry
    from pruningbench.suite.plan import Plan


class RunPath(click.Path):
    """A path of a run, or the URL of one as text."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a URL as it is, and anything else as a path; refuse a URL whose files end with this process."""
        from pruningbench.store.remote import check_lasting, is_url

        if not is_url(value):
            return super().convert(value, param, ctx)
        check_lasting(value)
        return value


class LocalPath(click.Path):
    """A path for output on this machine."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path; refuse a URL, which would become a folder of a strange name."""
        from pruningbench.store.remote import is_url, shown

        if is_url(value):
            self.fail(f"{shown(value)} is a URL; give a path on this machine", param, ctx)
        return super().convert(value, param, ctx)


set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="Change the suite, e.g. --set sparsities=[0,.9] or --set recipes.1.epochs=5. Repeatable.",
)  # fmt: skip
only_option = click.option(
    "--only", multiple=True, metavar="KIND=LABEL",
    help="Only these cells or tasks, by exact label (* matches any text), e.g. --only model=digits-vit. Repeatable.",
)  # fmt: skip
not_option = click.option(
    "--not", "without", multiple=True, metavar="KIND=LABEL",
    help="All but these cells or tasks, e.g. --not pruner=random. Repeatable.",
)  # fmt: skip
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N",
    help="Rehearse on N samples of each data set, in a separate run folder.",
)  # fmt: skip


def with_limit(settings: tuple[str, ...], limit: int | None) -> tuple[str, ...]:
    """Return a suite's settings followed by the setting from ``--limit``."""
    return settings if limit is None else (*settings, f"limit={limit}")


@contextmanager
def few_collections() -> Iterator[None]:
    """Collect garbage rarely inside the block: tables of many rows make millions of objects, and hardly any cycle.

    The default thresholds cost a sixth of the time of a table of 100,000 rows (measured), and save no memory there.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def say(text: object = "", *, err: bool = False) -> None:
    """Print text that may contain names from plugins, suites and run folders, without terminal control characters."""
    click.echo(displayable_lines(text), err=err)


def say_lines(lines: Iterable[tuple[str, bool]]) -> None:
    """Print lines, each with whether it is of little weight; such lines are grey on a terminal, unless NO_COLOR is set.

    Source: https://no-color.org: any value of NO_COLOR but "" turns colours off.
    """
    grey = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for line, light in lines:
        shown = displayable_lines(line)
        click.echo(click.style(shown, dim=True) if light and grey else shown)


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(displayable_json(value, indent=2))


def complain(subject: str, message: object) -> None:
    """Print ``WHAT: MESSAGE`` as one line on standard error, whatever the message contains."""
    click.echo(f"{subject}: {displayable(message)}", err=True)


def announce(plan: Plan) -> None:
    """Print one line for each piece of code outside any plugin that is about to run."""
    for code in plan.runs():
        say(displayable(f"runs {code}"), err=True)


def parse_shard(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse ``I/N`` with 1 <= I <= N."""
    if value is None:
        return None
    index, slash, count = value.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise click.BadParameter(f"{value!r} must be I/N with 1 <= I <= N, for example 1/4")
    return int(index), int(count)


def parse_memory(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Parse a size such as ``8GB`` or ``500 MB`` into bytes; a unit is 1024 times the one before."""
    if value is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])I?B\s*", value.upper())
    if found is None:
        raise click.BadParameter(f"{value!r} must be a size with its unit, such as 8GB or 500MB")
    return int(float(found[1]) * 1024 ** ("KMGT".index(found[2]) + 1))


def parse_time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Parse a time such as ``2h``, ``90 min``, ``1h30m`` or ``45s`` into seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m(?:in)?)?(?:([\d.]+)s)?", value.replace(" ", "").lower())
    try:
        hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found and value.strip() else (0,) * 3
    except ValueError:  # such as 1.2.3
        hours = minutes = seconds = 0
    total = 3600 * hours + 60 * minutes + seconds
    if not total > 0:
        raise click.BadParameter(f"{value!r} must be a time such as 2h, 90min or 1h30m")
    return total


def table_width() -> int | None:
    """Return the width in columns of the terminal on standard output, or None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def registry_with_warnings() -> Registry:
    """Load the plugins and warn about broken ones."""
    from pruningbench.plugins import load_registry

    registry = load_registry()
    for broken in registry.broken:
        complain("warning", f"plugin {broken.plugin} is left out or incomplete: {broken.reason}")
    for bad in registry.contained:
        complain("warning", f"plugin {bad.plugin}, while it was loaded: {bad.reason}")
    return registry
