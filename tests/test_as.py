"""``as:`` gives a component a label in tables; keys and results stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.runs import run

from pruningbench.errors import RunFolderError, SuiteError
from pruningbench.leaderboard import build, render
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text

PLAIN = """\
name: named
models: [toy-net, {use: toy-net, width: 4}]
pruners: [toy-pruner, {use: toy-pruner, shift: 1.0, for: ["toy-net(width=4)"]}]
sparsities: [0, 0.5]
tasks:
  - {use: toy-task, data: {use: toy-data, split: test}}
  - {use: classification, data: {use: toy-data, split: test}}
  - {use: classification, data: {use: toy-data, split: train}}
"""
NAMED = PLAIN.replace("width: 4}", "width: 4, as: narrow}").replace(
    'for: ["toy-net(width=4)"]', "for: narrow, as: shifted"
)


def test_labels_are_those_that_the_suite_gives(toy_registry: Registry) -> None:
    plan = make_plan(suite_from_text(NAMED, toy_registry), toy_registry)
    assert [cell.label for cell in plan.cells] == [
        *("toy-net · dense", "toy-net · toy-pruner 0.5 none"),
        *("narrow · dense", "narrow · toy-pruner 0.5 none", "narrow · shifted 0.5 none"),
    ]


def test_keys_are_the_same_with_and_without(toy_registry: Registry) -> None:
    named, plain = (make_plan(suite_from_text(text, toy_registry), toy_registry) for text in (NAMED, PLAIN))
    assert [cell.key for cell in named.cells] == [cell.key for cell in plain.cells]


def test_the_resolved_suite_keeps_it(toy_registry: Registry) -> None:
    suite = suite_from_text(NAMED, toy_registry)
    again = suite_from_text(suite.to_yaml(), toy_registry)
    assert (again.resolved(), again.digest) == (suite.resolved(), suite.digest)
    assert suite.resolved()["models"][1]["as"] == "narrow"
    pruner = suite.resolved()["pruners"][1]
    assert (pruner["as"], pruner["for"]) == ("shifted", ["narrow"])


def test_tables_and_pages_show_it(toy_registry: Registry, tmp_path: Path) -> None:
    run(NAMED, toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run")
    assert set(table["model"]) == {"toy-net", "narrow"}
    assert set(table["pruner"]) == {"dense", "toy-pruner", "shifted"}
    assert "narrow" in render(build(table), "markdown")
    from pruningbench.site.build import build_site

    build_site([tmp_path / "run"], tmp_path / "site", registry=toy_registry)
    assert "narrow" in "".join(page.read_text("utf-8") for page in (tmp_path / "site").rglob("*.html"))


def test_another_label_in_the_same_folder_is_refused(toy_registry: Registry, tmp_path: Path) -> None:
    run(NAMED, toy_registry, tmp_path / "run")
    with pytest.raises(RunFolderError, match="models"):
        run(NAMED.replace("narrow", "thin"), toy_registry, tmp_path / "run")


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("as: toy-net}", "also the label of another"),
        ("as: digits-resnet}", "is the name of another model"),
        ("as: 'a b'}", "as: must be text"),
        ("as: 7}", "as: must be text"),
        ("as: " + "x" * 61 + "}", "at most 60"),
        ("as: ''}", "as: must be text"),
        ("as: dense}", "is the name of another model"),
    ],
)
def test_labels_that_mislead_are_refused(toy_registry: Registry, item: str, words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        suite_from_text(NAMED.replace("as: narrow}", item).replace("for: narrow, ", ""), toy_registry)


def test_recipes_and_tasks_have_none(toy_registry: Registry) -> None:
    """Their labels have a meaning: whether anything is trained, and the dimension of a value."""
    recipe = PLAIN.replace("tasks:", "recipes: [{use: none, as: raw}]\ntasks:")
    for text in (recipe, PLAIN.replace("split: train}}", "split: train}, as: seen}")):
        with pytest.raises(SuiteError, match="'as'"):
            suite_from_text(text, toy_registry)
