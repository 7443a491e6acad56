"""Fields that list components: bound one by one, spelled out, and part of the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from pruningbench.contract import Context, Dataset, DatasetRef, Samples, Task, VisionModel, param
from pruningbench.plugins import Plugin, Registry
from pruningbench.suite.binding import BindingError, bind


@dataclass(frozen=True)
class Letters(Dataset):
    """Letters."""

    split: str = param("train", doc="which part")

    def load(self, context: Context) -> Samples:
        raise NotImplementedError


@dataclass(frozen=True)
class Many(Task):
    """Many."""

    sources: tuple[DatasetRef, ...] = param((), doc="any number of data sets")

    def run(self, model: VisionModel, context: Context) -> Any:
        raise NotImplementedError


@pytest.fixture
def registry() -> Registry:
    found = Registry()
    found.add("dataset", "letters", Letters, Plugin("toys", "toy-plugin", "2.1"))
    found.add("task", "many", Many, Plugin("toys", "toy-plugin", "2.1"))
    return found


def many(*sources: Any) -> dict[str, Any]:
    return {"use": "many", "sources": list(sources)}


def test_each_item_is_bound_and_spelled_out(registry: Registry) -> None:
    use = bind(registry, "task", many("letters", {"use": "letters", "split": "test"}))
    assert [use.references[f"sources.{i}"].component for i in range(2)] == [Letters(), Letters("test")]
    spelled = [{"use": "letters", "split": "train"}, {"use": "letters", "split": "test"}]
    assert use.spec() == {"use": "many", "sources": spelled}
    assert use.component == Many(tuple(spelled))  # type: ignore[arg-type]
    assert bind(registry, "task", use.spec()) == use
    assert [item["fields"]["split"] for item in use.identity()["fields"]["sources"]] == ["train", "test"]


def test_equal_lists_are_equal_and_their_order_counts(registry: Registry) -> None:
    first = bind(registry, "task", many("letters", {"use": "letters", "split": "test"}))
    same = bind(registry, "task", many({"use": "letters", "split": "train"}, {"use": "letters", "split": "test"}))
    turned = bind(registry, "task", many({"use": "letters", "split": "test"}, "letters"))
    assert first.identity() == same.identity() != turned.identity()


def test_an_empty_list_names_nothing(registry: Registry) -> None:
    use = bind(registry, "task", "many")
    assert use.references == {} and use.label == "many"
    assert use.identity()["fields"] == {"sources": ()}


@pytest.mark.parametrize(
    ("sources", "message", "path"),
    [
        ("letters", "field 'sources': must be a list", ("sources",)),
        (["letters", "leters"], "field 'sources.1'.*did you mean 'letters'", ("sources", 1)),
        ([{"use": "letters", "split": 3}], "field 'sources.0'.*must be text", ("sources", 0, "split")),
    ],
)
def test_errors_name_the_item(registry: Registry, sources: Any, message: str, path: tuple[Any, ...]) -> None:
    with pytest.raises(BindingError, match=message) as caught:
        bind(registry, "task", {"use": "many", "sources": sources})
    assert caught.value.path == path
