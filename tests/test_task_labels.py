"""Labels of tasks: the same as they always were, and in time that grows with their number."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruningbench.base.identity import content_hash
from pruningbench.contract import Context, Dataset, DatasetRef, Outputs, Samples, Task, VisionModel, param
from pruningbench.contract.component import Use
from pruningbench.plugins import Registry
from pruningbench.suite.labels import labelled
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import suite_from_text


@dataclasses.dataclass(frozen=True)
class SomeData(Dataset):
    """Data."""

    split: str = param("test", doc="split")
    count: int | None = param(None, doc="how many")

    def load(self, context: Context) -> Samples:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class SomeTask(Task):
    """A task."""

    data: DatasetRef = param("some", doc="data")
    text: str = param("", doc="text")
    size: int = param(1, doc="a knob", identity=False)
    share: float = param(0.5, doc="share")

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        raise NotImplementedError


def by_definition(uses: Sequence[Use]) -> dict[str, Use]:
    """Label tasks as suites did when each label was made from all fields of all others, for each of them."""

    def distinction(use: Use, same: Sequence[Use]) -> str:
        if len(same) == 1:
            return ""
        fields = {name: [other.fields()[name] for other in same] for name in use.fields()}
        differing = [name for name, values in fields.items() if any(value != values[0] for value in values)]
        text = " ".join(
            use.references[name].label if name in use.references else str(use.fields()[name]) for name in differing
        )
        return "-" + re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")

    labels: dict[str, Use] = {}
    for use in uses:
        same = [other for other in uses if other.name == use.name]
        told_apart = [distinction(other, same) for other in same]
        label = use.name + distinction(use, same)
        if len(set(told_apart)) < len(same) or len(label) > 60:
            label = f"{use.name}-{content_hash(use.identity(), length=6)}"
        labels[label] = use
    return labels


DATA = st.builds(SomeData, split=st.sampled_from(["test", "TEST", "train"]), count=st.sampled_from([None, 3]))
TASKS = st.builds(
    lambda name, data, **fields: Use(name, SomeTask("some", **fields), {"data": Use("some", data)}),
    name=st.sampled_from(["one", "two"]), data=DATA, text=st.sampled_from(["", "a", "A", "a b", "a-b", "é", "x" * 60]),
    size=st.sampled_from([1, 2]), share=st.sampled_from([0.5, 0.25]),
)  # fmt: skip


@given(st.lists(TASKS, max_size=7))
def test_labels_are_those_of_the_definition(uses: list[Use]) -> None:
    mine, theirs = labelled(uses), by_definition(uses)
    assert list(mine) == list(theirs)
    assert all(mine[label] is theirs[label] for label in theirs)


def test_each_component_is_spelled_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs is to spell a component out: once a task, not once for each pair or triple of them."""
    calls = {"fields": 0, "identity": 0}

    def counted(name: str) -> Any:
        original = getattr(Use, name)

        def call(self: Use, *args: Any, **more: Any) -> Any:
            calls[name] += self.name == "one"
            return original(self, *args, **more)

        return call

    for name in calls:
        monkeypatch.setattr(Use, name, counted(name))
    uses = [Use("one", SomeTask("some", text=f"t{i}"), {"data": Use("some", SomeData())}) for i in range(150)]
    assert len(labelled(uses)) == 150
    assert calls == {"fields": 150, "identity": 0}
    labelled(
        [Use("one", SomeTask("some", text="y" * 60 + str(i)), {"data": Use("some", SomeData())}) for i in range(150)]
    )
    assert calls["fields"] == 300 and calls["identity"] == 150


def test_a_suite_of_many_variants_is_planned(toy_registry: Registry) -> None:
    lines = "".join(f"  - {{use: interpretability, data: {{use: digit-scenes, count: {i + 1}}}}}\n" for i in range(150))
    text = f"name: many\nmodels: [toy-net]\npruners: [toy-pruner]\nsparsities: [0, 0.5]\ntasks:\n{lines}"
    plan = make_plan(suite_from_text(text, toy_registry), toy_registry)
    assert [run.label for run in plan.tasks][::149] == [
        "interpretability-digit-scenes-count-1",
        "interpretability-digit-scenes-count-150",
    ]
