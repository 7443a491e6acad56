"""``pruningbench new suite``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pruningbench.cli.common import complain, registry_with_warnings, say

if TYPE_CHECKING:
    from pruningbench.contract.component import Kind
    from pruningbench.plugins import Registry

SCHEMA = "suite.schema.json"


@click.group()
def new() -> None:
    """Make a new suite. For a new plugin: pruningbench plugin new."""


@new.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("suite.yaml"))
@click.option("--models", help="Names of models, separated by commas.")
@click.option("--pruners", help="Names of pruners, separated by commas.")
@click.option("--tasks", help="Names of tasks, separated by commas.")
@click.option("--data", help="Name of the data set to measure on.")
def suite(file: Path, models: str | None, pruners: str | None, tasks: str | None, data: str | None) -> int:
    """Write FILE (suite.yaml by default) and the JSON Schema beside it; what no option answers is asked."""
    from pruningbench.base.files import write_whole
    from pruningbench.errors import UsageError
    from pruningbench.suite.jsonschema import schema_text, suite_schema
    from pruningbench.suite.newsuite import defaults, known, suite_text

    if file.exists():
        raise UsageError(f"{file}: exists already; choose another name")
    registry = registry_with_warnings()

    def names(kind: Kind) -> Callable[[str], list[str]]:
        return lambda text: known(registry, kind, [part for part in re.split(r"[\s,]+", text) if part])

    suggested = {} if None not in (models, pruners, tasks, data) else defaults(registry)
    answers = (
        _answer(registry, "model", models, suggested.get("model"), names("model")),
        _answer(registry, "pruner", pruners, suggested.get("pruner"), names("pruner")),
        _answer(registry, "task", tasks, suggested.get("task"), names("task")),
        _answer(registry, "dataset", data, suggested.get("dataset"), names("dataset")),
    )
    if len(answers[3]) != 1:
        raise UsageError(f"name one data set, got {', '.join(answers[3])}")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-") or "suite"
    text = suite_text(
        registry, name=name, models=answers[0], pruners=answers[1], tasks=answers[2], data=answers[3][0], schema=SCHEMA
    )
    schema = file.parent / SCHEMA
    write_whole(schema, schema_text(suite_schema(registry)).encode())
    write_whole(file, text.encode())
    say(f"suite        {file}")
    say(f"schema       {schema}")
    say(f"next         pruningbench plan {file}")
    return 0


_QUESTIONS = {
    "model": "Which models are pruned",
    "pruner": "By which pruners",
    "task": "What is measured (tasks)",
    "dataset": "On which data set",
}


def _answer(
    registry: Registry, kind: Kind, given: str | None, default: str | None, check: Callable[[str], list[str]]
) -> list[str]:
    """Return the names that an option gives, or else those that a person types; wrong ones are asked for again."""
    from pruningbench.errors import PruningBenchError

    if given is not None:
        return check(given)
    say(f"{kind}s: {', '.join(registry.names(kind))}", err=True)
    while True:
        try:
            return check(click.prompt(_QUESTIONS[kind], default=default, err=True))
        except PruningBenchError as error:
            complain("error", error)
