"""Suites: every wrong line is named with its place, and a suite says all that it means."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.toysuite import TOY_SUITE

from pruningbench.errors import SuiteError, UsageError
from pruningbench.plugins import Registry, load_registry
from pruningbench.suite.cells import Cell
from pruningbench.suite.schema import Suite, find_suite, load_suite, suite_from_text

BASE = """\
name: toy
models: [toy-net]
pruners: [toy-pruner]
sparsities: [0, .5]
tasks:
  - {use: toy-task, data: toy-data}
"""


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (changed("[toy-net]", "[toy-met]"), "s:2:10", "unknown model 'toy-met'; did you mean 'toy-net'"),
        (changed("[toy-pruner]", "[toy-net]"), "s:3:11", "'toy-net' is a model"),
        (changed("[toy-pruner]", "[{use: toy-pruner, shfit: 1}]"), "s:3:29", "did you mean 'shift'"),
        (changed("[toy-pruner]", "[{use: toy-pruner, shift: big}]"), "s:3:36", "must be a number, got 'big'"),
        (changed("[toy-net]", "[{use: toy-net, width: '8'}]"), "s:2:32", "must be a whole number"),
        (changed("[toy-net]", "[{use: toy-net, width: 8.5}]"), "s:2:32", "must be a whole number"),
        (changed("[toy-net]", "[{use: toy-net, width: true}]"), "s:2:32", "must be a whole number"),
        (changed("[toy-net]", "[{width: 8}]"), "s:2:10", "needs `use: NAME`"),
        (changed("[toy-net]", "[{us: toy-net}]"), "s:2:10", "did you mean"),
        (changed("[toy-net]", "[12]"), "s:2:10", "a name or a mapping"),
        (changed("[toy-net]", "toy-net"), "s:2:9", "must be a list"),
        (changed("[toy-net]", "[]"), "s:2:9", "is empty"),
        (changed("[toy-pruner]", "[]"), "s:3:10", "is empty"),
        (changed("[0, .5]", "[]"), "s:4:13", "is empty"),
        (changed("[0, .5]", "[0, 1]"), "s:4:17", "outside [0, 1)"),
        (changed("[0, .5]", "[0, -0.1]"), "s:4:17", "outside [0, 1)"),
        (changed("[0, .5]", "[0, 90]"), "s:4:17", "for 90 percent write 0.9"),
        (changed("[0, .5]", "[0, .nan]"), "s:4:17", "outside [0, 1)"),
        (changed("[0, .5]", "[0, half]"), "s:4:17", "a number in [0, 1)"),
        (changed("[0, .5]", "[0, true]"), "s:4:17", "a number in [0, 1)"),
        (changed("[0, .5]", "[.5, 0.50]"), "s:4:18", "listed twice"),
        (changed("[toy-net]", "[toy-net, {use: toy-net, width: 8}]"), "s:2:19", "listed twice"),
        (changed("[toy-pruner]", "[toy-pruner, {use: toy-pruner, shift: 0}]"), "s:3:23", "listed twice"),
        (
            changed("[toy-pruner]", "[toy-pruner, {use: toy-pruner, for: [toy-net]}]"),
            "s:3:23",
            "twice for toy-net (items 0 and 1",
        ),
        (BASE + "models: [toy-net]\n", "s:7:1", "is repeated here"),
        (BASE + "prunner: [x]\n", "s:7:1", "did you mean 'pruners'"),
        (BASE + "seeds: [0, 0]\n", "s:7:12", "listed twice"),
        (BASE + "seeds: [-1]\n", "s:7:9", "whole number"),
        (BASE + "seeds: [1.5]\n", "s:7:9", "whole number"),
        (BASE + "seeds: []\n", "s:7:8", "is empty"),
        (BASE + "recipes: [fine-tune]\n", "s:7:11", "did you mean 'finetune'"),
        (BASE + "recipes: [{use: finetune, epochs: 0}]\n", "s:7:11", "epochs is 0"),
        (BASE + "recipes: [{use: finetune, optimizer: sgdd}]\n", "s:7:38", "did you mean 'sgd'"),
        (BASE + "batch_size: 0\n", "s:7:13", "at least 1"),
        (BASE + "scope: {haed: true}\n", "s:7:9", "did you mean 'head'"),
        (BASE + "scope: {head: 1}\n", "s:7:15", "true or false"),
        (BASE + "scope: {exclude: conv1}\n", "s:7:18", "list of patterns"),
        (BASE + "data: toy-date\n", "s:7:7", "did you mean 'toy-data'"),
        (changed("data: toy-data", "data: toy-dota"), "s:6:27", "did you mean 'toy-data'"),
        (changed("data: toy-data", "data: {use: toy-data, splt: test}"), "s:6:43", "did you mean 'split'"),
        (changed(", data: toy-data", ""), "s:6:5", "'data': is required"),
        (changed("name: toy", "name: ../toy"), "s:1:7", "letters, digits"),
        (changed("name: toy", "name: ''"), "s:1:7", "letters, digits"),
        (changed("name: toy\n", ""), "s:1:1", "needs a `name:`"),
        (changed("name: toy", "name: 12"), "s:1:7", "must be text"),
        (changed("sparsities: [0, .5]\n", ""), "s:1:1", "lacks `sparsities:`"),
        ("- a\n- b\n", "s:1:1", "a suite is a mapping"),
        ("", "s", "a suite is a mapping"),
    ],
)
def test_wrong_suites(text: str, place: str, words: str, toy_registry: Registry) -> None:
    with pytest.raises(SuiteError) as caught:
        suite_from_text(text, toy_registry, source="s")
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"{place}: "), message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_resolved_suite_loads_as_itself(toy_registry: Registry) -> None:
    suite = suite_from_text(TOY_SUITE, toy_registry)
    again = suite_from_text(suite.to_yaml(), toy_registry)
    assert again == suite
    assert again.digest == suite.digest
    assert again.to_yaml() == suite.to_yaml()
    assert suite.resolved()["recipes"][1]["lr"] == 0.01  # defaults are spelled out


def test_defaults_spelled_out_are_the_same_suite(toy_registry: Registry) -> None:
    plain = suite_from_text(BASE, toy_registry)
    spelled = suite_from_text(changed("[toy-net]", "[{use: toy-net, width: 8}]"), toy_registry)
    assert spelled.digest == plain.digest


@pytest.mark.parametrize(
    "text",
    [
        changed("[0, .5]", "[0, .6]"),
        changed("[toy-net]", "[{use: toy-net, width: 4}]"),
        changed("toy-data}", "{use: toy-data, split: test}}"),
        BASE + "seeds: [1]\n",
        BASE + "recipes: [finetune]\n",
        BASE + "metrics: [toy-margin]\n",
        BASE + "scope: {head: false}\n",
        BASE + "data: {use: toy-data, count: 10}\n",
        changed("name: toy", "name: other"),
    ],
)
def test_what_changes_a_result_changes_the_digest(text: str, toy_registry: Registry) -> None:
    assert suite_from_text(text, toy_registry).digest != suite_from_text(BASE, toy_registry).digest


@pytest.mark.parametrize(
    "text", [BASE + "batch_size: 7\n", BASE + "description: words\n", changed("[0, .5]", "[.5, 0]")]
)
def test_what_changes_no_result_keeps_the_digest(text: str, toy_registry: Registry) -> None:
    assert suite_from_text(text, toy_registry).digest == suite_from_text(BASE, toy_registry).digest


@pytest.mark.parametrize("kind", [Suite, Cell])
def test_every_field_is_classified(kind: type) -> None:
    """A new field has to say whether it can change a result; without that, keys cannot be trusted."""
    for field in dataclasses.fields(kind):
        assert isinstance(field.metadata.get("identity"), bool), f"{kind.__name__}.{field.name} is not classified"


def test_two_uses_of_one_task_have_two_labels(toy_registry: Registry) -> None:
    text = changed("  - {use: toy-task, data: toy-data}", "  - {use: toy-task, data: toy-data}\n"
                   "  - {use: toy-task, data: {use: toy-data, split: test}}")  # fmt: skip
    suite = suite_from_text(text, toy_registry)
    assert len(suite.tasks) == 2
    assert all(label.startswith("toy-task-") for label in suite.tasks)


def test_settings_and_paths(suite_file: Callable[..., Path], toy_registry: Registry) -> None:
    path = suite_file(BASE)
    suite = load_suite(str(path), toy_registry, ["sparsities=[.25]", "models.0.width=4"])
    assert suite.sparsities == (0.25,)
    assert suite.models[0].component.width == 4  # type: ignore[attr-defined]
    with pytest.raises(SuiteError, match=r"^--set sparsities=\[2\]: sparsity 2 is outside"):
        load_suite(str(path), toy_registry, ["sparsities=[2]"])


def test_finding_suites(tmp_path: Path, toy_registry: Registry) -> None:
    path, home = find_suite("quickstart", toy_registry)
    assert (path.name, home) == ("quickstart.yaml", "pruningbench")
    assert find_suite("pruningbench/quickstart", toy_registry) == (path, home)
    assert find_suite(str(path), toy_registry) == (path, "")
    with pytest.raises(UsageError, match="unknown suite 'quikstart'; did you mean 'quickstart'"):
        find_suite("quikstart", toy_registry)
    with pytest.raises(UsageError, match="no such file"):
        find_suite(str(tmp_path / "absent.yaml"), toy_registry)


@pytest.mark.parametrize("name", load_registry().names("suite"))
def test_shipped_suites_are_valid(name: str, toy_registry: Registry) -> None:
    suite = load_suite(name, toy_registry)
    assert suite.name == name
    assert suite.description


@pytest.mark.parametrize(
    ("tasks", "labels"),
    [
        (["{use: toy-task, data: toy-data}"], ["toy-task"]),
        (
            ["{use: toy-task, data: {use: toy-data, split: test}}", "{use: toy-task, data: toy-data}"],
            ["toy-task-toy-data-split-test", "toy-task-toy-data"],
        ),
        (
            ["{use: toy-task, data: toy-data, fits: 5}", "{use: toy-task, data: toy-data, fits: 7}"],
            ["toy-task-5", "toy-task-7"],
        ),
    ],
)
def test_two_uses_of_a_task_are_told_apart_by_what_differs(
    toy_registry: Registry, tasks: list[str], labels: list[str]
) -> None:
    text = changed("  - {use: toy-task, data: toy-data}\n", "".join(f"  - {task}\n" for task in tasks))
    assert list(suite_from_text(text, toy_registry).tasks) == labels
