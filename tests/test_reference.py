"""The reference made from docstrings and fields, and the pages of the documentation that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from kit.toysuite import Command

from pruningbench.contract import Dataset, param
from pruningbench.contract.component import BUILT_IN, KINDS, Kind
from pruningbench.errors import UsageError
from pruningbench.plugins import Plugin, Registry, load_registry
from pruningbench.suite.reference import as_markdown, below_the_marker, describe, describe_fields, update

DOCS = Path(__file__).parent.parent / "docs"
PAGES: dict[str, Kind] = {
    "pruners.md": "pruner",
    "models.md": "model",
    "data.md": "dataset",
    "tasks.md": "task",
    "metrics.md": "metric",
    "recipes.md": "recipe",
    "attribution-methods.md": "attribution-method",
    "discovery-methods.md": "discovery-method",
}


@dataclass(frozen=True)
class Pears(Dataset):
    """Pears: ``p = 1 | 2``, ripe ones.

    They are weighed
    one by one, which is not a Source of error.

    Cost: one pass; memory of 2 pears. Needs a scale, and `apples`. Higher = keep. Sources: A, On pears
    (2001); B (2002).
    """

    name: str = param(doc="of the tree")
    count: int = param(3, doc="how many | at most")
    speed: float = param(1.5, doc="pears a second", identity=False)

    def load(self, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError


@pytest.fixture()
def pears() -> Registry:
    registry = Registry()
    registry.add("dataset", "pears", Pears, Plugin("fruit", "fruit", "1"))
    return registry


def pruners() -> list[str]:
    registry = load_registry()
    return [name for name in registry.names("pruner") if registry.entry("pruner", name).plugin.distribution == BUILT_IN]


@pytest.mark.parametrize("name", pruners())
def test_every_pruner_says_formula_cost_needs_and_source(name: str) -> None:
    said = describe(load_registry().entry("pruner", name).load())
    assert said.has_formula, "no formula in ``double backticks``"
    assert all([said.summary.endswith("."), said.cost, said.needs, said.sources]), said


@pytest.mark.parametrize(("page", "kind"), PAGES.items())
def test_the_pages_are_up_to_date(page: str, kind: Kind) -> None:
    expected = as_markdown(load_registry(), kind, plugin=BUILT_IN)
    found = below_the_marker((DOCS / page).read_text("utf-8"))
    assert found == expected + "\n", f"run: PRUNINGBENCH_PLUGINS= pruningbench show {kind}s --update docs/{page}"


def test_every_kind_has_a_page() -> None:
    assert sorted(PAGES.values()) == sorted(KINDS)


def test_a_docstring_is_taken_apart() -> None:
    said = describe(Pears)
    assert said.summary == "Pears: ``p = 1 | 2``, ripe ones."
    assert said.body == ("They are weighed one by one, which is not a Source of error.",)
    assert said.cost == "one pass; memory of 2 pears."
    assert said.needs == "a scale, and `apples`."
    assert said.sources == "A, On pears (2001); B (2002)."
    assert said.has_formula


def test_markdown_of_one_and_of_all(pears: Registry) -> None:
    text = as_markdown(pears, "dataset")
    assert text.startswith("## pears\n\n**Pears: `p = 1 | 2`, ripe ones.**")
    assert "| `count` | `3` | whole number | how many \\| at most |" in text
    assert "| `speed` | `1.5` | number | pears a second. It does not change results. |" in text
    assert "| `name` | required | text | of the tree |" in text
    pears.add("dataset", "plums", Pears, Plugin("fruit", "other", "1"))
    both = as_markdown(pears, "dataset")
    assert both.startswith("| dataset | |\n|---|---|\n| [`pears`](#pears) | Pears: `p = 1 \\| 2`, ripe ones. |\n")
    assert "## plums" in both and "## plums" not in as_markdown(pears, "dataset", plugin="fruit")


def test_update_keeps_what_is_above_the_marker(tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    update(page, "first", "model")
    text = page.read_text("utf-8")
    assert text.startswith("# Models\n\n<!-- made by `pruningbench show models --update docs/models.md`")
    page.write_text("# Mine\n\nBy hand.\n\n" + text[text.index("<!--") :], "utf-8")
    update(page, "second\n", "model")
    assert page.read_text("utf-8").startswith("# Mine\n\nBy hand.\n\n<!-- made by")
    assert below_the_marker(page.read_text("utf-8")) == "second\n"
    page.write_text("# Mine\n", "utf-8")
    with pytest.raises(UsageError, match="has no line"):
        update(page, "third", "model")
    assert page.read_text("utf-8") == "# Mine\n"


def test_the_command_prints_and_updates(pruningbench: Command, tmp_path: Path) -> None:
    printed = pruningbench("show", "pruners", "--markdown", check=0, PRUNINGBENCH_PLUGINS="").stdout
    assert printed.startswith("| pruner | |") and "## magnitude" in printed
    assert pruningbench("show", "pruner", "magnitude", "--markdown", check=0).stdout.startswith("## magnitude\n")
    pruningbench("show", "pruners", "--update", "page.md", check=0, PRUNINGBENCH_PLUGINS="")
    assert below_the_marker((tmp_path / "page.md").read_text("utf-8")) == printed
    assert "name a pruner" in pruningbench("show", "pruners", check=2).stderr


def test_types_and_lists_of_a_docstring_stay_what_they_are() -> None:
    @dataclass(frozen=True)
    class Orchard(Pears):
        """Trees.

        They are pruned so:

        * ``early``: in spring,
          before the blossom.
        * ``late``: in autumn.
        """

        levels: list[float] = param([], doc="heights")
        names: tuple[str | None, ...] = param((), doc="names")
        weights: dict[str, float] = param({}, doc="weights")

    types = {field["name"]: field["type"] for field in describe_fields(Orchard)}
    assert types["levels"] == "list of number"
    assert types["names"] == "list of (text | null)"
    assert types["weights"] == "mapping of text to number"
    assert describe(Orchard).body[1] == "* ``early``: in spring, before the blossom.\n* ``late``: in autumn."
