"""``pruningbench data list | fetch NAME | path [NAME]``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from pruningbench.base.text import displayable
from pruningbench.cli.common import complain, registry_with_warnings, say, say_json
from pruningbench.cli.completion import suites

if TYPE_CHECKING:
    from pruningbench.contract.dataset import Dataset
    from pruningbench.images.fetch import Progress
    from pruningbench.plugins import Registry

field_option = click.option(
    "--set", "settings", multiple=True, metavar="FIELD=VALUE",
    help="A field of the data set, e.g. --set split=train. Repeatable.",
)  # fmt: skip


@click.group()
def data() -> None:
    """List the data sets, fetch one, or print its folder. PRUNINGBENCH_DATA sets the folder of all data sets."""


@data.command("list")
@click.option("--json", is_flag=True, help="Print JSON, with citation, homepage and checksum.")
def list_(json: bool) -> int:
    """List the data sets with their status (whether they are present), size and licence."""
    from pruningbench.images.fetch import data_folder

    registry = registry_with_warnings()
    rows = [describe(registry, name) for name in registry.names("dataset")]
    if json:
        say_json({"folder": str(data_folder()), "datasets": rows})
        return 0
    widths = [max(len(row[key]) for row in rows) for key in ("name", "status")]
    say(f"data folder  {data_folder()}")
    for row in rows:
        size = human_size(row["size"]) if row["size"] else "-"
        licence = displayable(row["licence"])
        say(f"  {row['name']:<{widths[0]}}  {row['status']:<{widths[1]}}  {size:>8}  {licence}")
    say("fetch one with `pruningbench data fetch NAME`; `pruningbench show dataset NAME` describes it")
    return 0


def describe(registry: Registry, name: str) -> dict[str, Any]:
    """Return a data set's card and whether it is present, as plain values."""
    import dataclasses

    from pruningbench.contract.dataset import Dataset
    from pruningbench.errors import PruningBenchError
    from pruningbench.suite.binding import bind

    row: dict[str, Any] = {"name": name, "status": "", "missing": None}
    try:
        component = registry.entry("dataset", name).load()
        assert issubclass(component, Dataset)  # noqa: S101 - load checked the kind
        row |= dataclasses.asdict(component.card)
    except PruningBenchError as error:
        return {**row, "status": "broken", "missing": str(error), "licence": "", "size": 0}
    try:
        dataset = bind(registry, "dataset", name).component
    except PruningBenchError as error:
        return {**row, "status": "needs fields", "missing": str(error)}
    assert isinstance(dataset, Dataset)  # noqa: S101 - bind checked the kind
    row["missing"] = dataset.missing()
    row["status"] = "missing" if row["missing"] else "there" if dataset.folder() else "built in"
    return row


def human_size(size: float) -> str:
    """Return a number of bytes in readable form, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.0f} TB"


@data.command("fetch")
@click.argument("name", required=False)
@field_option
@click.option("--suite", shell_complete=suites, help="Fetch all data sets that this suite needs, instead of NAME.")
def fetch(name: str | None, settings: tuple[str, ...], suite: str | None) -> int:
    """Download the data set NAME, check it and put it in place; continue where an interrupted fetch ended.

    With --suite, all data sets of a suite: what needs an account is named at the end, with exit code 1.
    """
    from pruningbench.errors import UsageError

    if (name is None) == (suite is None):
        raise UsageError("name either a data set or, with --suite, a suite whose data sets to fetch")
    if name is not None:
        _fetch(name, _bound(name, settings))
        return 0
    if settings:
        raise UsageError("--set belongs to one data set: name it instead of --suite")
    return _fetch_for(str(suite))


def _fetch_for(suite: str) -> int:
    """Fetch the data sets of a suite; one that fails does not keep the others from being fetched."""
    from pruningbench.contract.dataset import Dataset
    from pruningbench.errors import PruningBenchError
    from pruningbench.suite.plan import make_plan
    from pruningbench.suite.schema import load_suite

    registry = registry_with_warnings()
    uses = make_plan(load_suite(suite, registry), registry).datasets()
    failed: dict[str, str] = {}
    for label, use in uses.items():
        dataset = use.component
        assert isinstance(dataset, Dataset)  # noqa: S101 - the plan chose by kind
        if use.name in failed and not dataset.downloads():
            continue  # the same account gives all its splits
        try:
            _fetch(label, dataset)
        except PruningBenchError as error:
            failed.setdefault(label if dataset.downloads() else use.name, str(error))
    for label, problem in failed.items():
        complain("missing", f"{label}: {problem}")
    return 1 if failed else 0


def _fetch(label: str, dataset: Dataset) -> None:
    from pruningbench.errors import MissingDataError

    if dataset.missing() is None:
        where = f": {dataset.folder()}" if dataset.folder() else ": it ships with the package"
        say(f"{displayable(label)} is available{where}")
        return
    card = dataset.card
    if dataset.downloads():
        size = f"{human_size(card.size)} to download; " if card.size else ""
        complain(label, f"{size}licence: {card.licence}; checksum: {card.checksum}")
    with progress_bar() as progress:
        dataset.fetch(progress)
    lack = dataset.missing()
    if lack:  # a plugin's data set that fetches nothing
        raise MissingDataError(f"data set {label}: {lack}")
    say(f"{displayable(label)} is available: {dataset.folder()}")


@data.command("path")
@click.argument("name", required=False)
@field_option
def path(name: str | None, settings: tuple[str, ...]) -> int:
    """Print the data folder, or the folder of the data set NAME; exit code 1 if the data set is missing."""
    from pruningbench.images.fetch import data_folder

    if name is None:
        say(data_folder())
        return 0
    dataset = _bound(name, settings)
    lack = dataset.missing()
    if dataset.folder() is not None:
        say(dataset.folder())
    if lack:
        complain("missing", lack)
    return 1 if lack else 0


def _bound(name: str, settings: tuple[str, ...]) -> Dataset:
    """Return the data set that the command line names, with its settings."""
    from pruningbench.base.yamlsource import parse_yaml
    from pruningbench.contract.dataset import Dataset
    from pruningbench.errors import SuiteError, UsageError
    from pruningbench.suite.binding import bind

    fields: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {text}: must be FIELD=VALUE, for example split=train")
        try:
            fields[key.strip()] = parse_yaml(value, f"--set {key}").value
        except SuiteError:
            raise UsageError(f"--set {text}: {value!r} is not a YAML value") from None
    dataset = bind(registry_with_warnings(), "dataset", {"use": name, **fields}).component
    assert isinstance(dataset, Dataset)  # noqa: S101 - bind checked the kind
    return dataset


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show the progress of each file on a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
        bar_of: dict[str, Any] = {}

        def note(what: str, done: int, total: int | None) -> None:
            if what not in bar_of:
                bar_of[what] = bars.add_task(displayable(what), total=total)
            bars.update(bar_of[what], completed=done, total=total)

        yield note
