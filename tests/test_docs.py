"""The documentation: its code runs, its suites bind, its commands exist, and its pages are in the site."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from kit.docpages import PAGES, blocks
from kit.scripts import ROOT, script

from pruningbench.cli.main import cli
from pruningbench.plugins import Registry, load_registry
from pruningbench.suite.binding import bind
from pruningbench.suite.schema import suite_from_text


def pages_with(*languages: str) -> list[Any]:
    chosen = [page for page in PAGES if blocks(page, *languages)]
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in chosen]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def invocations(text: str) -> list[list[str]]:
    """Return the arguments of each `pruningbench` command of a block, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if line.strip().startswith("pruningbench ")]
    return [line[1:] for line in words]


def check(arguments: list[str]) -> None:
    """Parse a command line as the program does, without running it."""
    parent, group = click.Context(cli, info_name="pruningbench", **cli.context_settings), cli
    while True:
        name, command, arguments = group.resolve_command(parent, arguments)
        context = command.make_context(name, arguments, parent=parent, resilient_parsing=False)
        if not isinstance(command, click.Group):
            return
        parent, group, arguments = context, command, [*context._protected_args, *context.args]


@pytest.mark.parametrize("page", pages_with("sh", "bash"))
def test_commands_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for text in blocks(page, "sh", "bash"):
        for arguments in invocations(text):
            check(arguments)


def test_a_wrong_command_or_option_would_be_noticed() -> None:
    for line in ("pruningbench rum quickstart", "pruningbench run quickstart --onyl x", "pruningbench cache lst"):
        with pytest.raises(click.UsageError):
            check(invocations(line)[0])


@pytest.mark.parametrize("page", pages_with("yaml"))
def test_suites_bind(page: Path, registry: Registry) -> None:
    for text in blocks(page, "yaml"):
        content = yaml.safe_load(text)
        if isinstance(content, dict) and {"models", "tasks"} <= set(content):
            suite_from_text(text, registry, source=page.name)
            continue
        for key, kind in (("models", "model"), ("pruners", "pruner"), ("recipes", "recipe"), ("tasks", "task")):
            for item in content.get(key, []) if isinstance(content, dict) else []:
                plain = {k: v for k, v in item.items() if k not in ("for", "as")} if isinstance(item, dict) else item
                bind(registry, kind, plain)  # type: ignore[arg-type]


def test_the_page_of_commands_is_up_to_date() -> None:
    """Otherwise: python .ci/commands.py."""
    assert script("commands").page() == (ROOT / "docs" / "commands.md").read_text("utf-8")


def test_every_metric_is_explained(registry: Registry) -> None:
    text = (ROOT / "docs" / "metrics-explained.md").read_text("utf-8")
    built_in = [r.name for r in registry.registrations("metric") if r.plugin.distribution == "pruningbench"]
    missing = [name for name in built_in if f"(metrics.md#{name})" not in text]
    assert missing == []


def test_the_suite_of_the_tutorial_is_what_the_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    page = ROOT / "docs" / "tutorial.md"
    monkeypatch.chdir(tmp_path)
    (arguments,) = [line for text in blocks(page, "sh") for line in invocations(text) if line[:2] == ["new", "suite"]]
    assert CliRunner().invoke(cli, arguments, standalone_mode=False).exception is None
    assert (tmp_path / "first.yaml").read_text("utf-8") == blocks(page, "yaml")[0]
