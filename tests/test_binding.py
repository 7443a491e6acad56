"""From a name or a mapping to a validated component, with errors that say what to change."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from pruningbench.contract import Context, Dataset, DatasetRef, Kind, Outputs, Samples, Task, Use, VisionModel, param
from pruningbench.contract.component import Component
from pruningbench.errors import FieldError, PluginError
from pruningbench.plugins import BrokenPlugin, Plugin, Registry
from pruningbench.suite.binding import BindingError, bind


@dataclass(frozen=True)
class Digits(Dataset):
    """Digits."""

    split: Literal["train", "test"] = param("train", doc="which part")
    limit: int = param(0, doc="number of samples, 0 for all")
    crop: tuple[int, ...] = param((2, 2), doc="border")

    def load(self, context: Context) -> Samples:
        raise NotImplementedError

    def problem(self) -> str | None:
        return "limit must be >= 0" if self.limit < 0 else None


@dataclass(frozen=True)
class Transfer(Task):
    """Transfer."""

    version: ClassVar[int] = 3

    steps: int = param(doc="required")
    data: DatasetRef = param({"use": "digits", "split": "test"}, doc="targets")
    source: DatasetRef | None = param(None, doc="sources")
    rate: float = param(0.5, doc="rate")
    on: bool = param(True, doc="switch")
    word: str = param("a", doc="text")
    sizes: tuple[int, ...] = param((1, 2), doc="sizes")
    weights: dict[str, float] = param({"a": 1.0}, doc="weights")
    maybe: int | None = param(None, doc="a number or nothing")
    batch_size: int = param(64, doc="speed only", identity=False)

    def run(self, model: VisionModel, context: Context) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Fussy(Digits):
    """Raises while it is made."""

    def __post_init__(self) -> None:
        if self.limit == 13:
            raise ValueError("13 brings bad luck")


@pytest.fixture
def registry() -> Registry:
    found = Registry()
    plugin = Plugin("toys", "toy-plugin", "2.1")
    found.add("dataset", "digits", Digits, plugin)
    found.add("dataset", "fussy", Fussy, plugin)
    found.add("task", "transfer", Transfer, plugin)
    return found


def task(**fields: Any) -> dict[str, Any]:
    return {"use": "transfer", "steps": 1, **fields}


def error(registry: Registry, kind: Kind, reference: Any) -> BindingError:
    with pytest.raises(BindingError) as caught:
        bind(registry, kind, reference)
    assert isinstance(caught.value, FieldError)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_name_gives_the_defaults(registry: Registry) -> None:
    use = bind(registry, "dataset", "digits")
    assert use == Use("digits", Digits(), {}, "toy-plugin", "2.1")
    assert use.label == "digits"
    assert use.spec() == {"use": "digits", "split": "train", "limit": 0, "crop": (2, 2)}


def test_fields_are_set_and_lists_become_tuples(registry: Registry) -> None:
    use = bind(registry, "task", task(sizes=[3, 4], rate=2, weights={"b": 2}, maybe=5, word="no"))
    component = use.component
    assert isinstance(component, Transfer)
    assert (component.sizes, component.rate, component.weights, component.maybe) == ((3, 4), 2.0, {"b": 2.0}, 5)
    assert isinstance(component.rate, float)
    assert use.label == "transfer(rate=2,word=no,sizes=[3 4],weights=(b=2),maybe=5)"


def test_a_whole_number_and_its_float_are_the_same_setting(registry: Registry) -> None:
    assert bind(registry, "task", task(rate=2)).identity() == bind(registry, "task", task(rate=2.0)).identity()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", True, "must be a whole number, got True"),
        ("steps", "3", "must be a whole number, got '3'"),
        ("steps", 3.5, "must be a whole number, got 3.5"),
        ("steps", None, "must be a whole number, got None"),
        ("steps", [1], r"must be a whole number, got [1]"),
        ("rate", "0.5", "must be a number, got '0.5'"),
        ("rate", True, "must be a number, got True"),
        (
            "rate",
            float("nan"),
            "must be a finite number, text, true, false, null, a list or a mapping of these, got nan",
        ),
        ("rate", datetime.date(2024, 1, 1), "got datetime.date(2024, 1, 1)"),
        ("on", "yes", "must be true or false, got 'yes'"),
        ("on", 1, "must be true or false, got 1"),
        ("word", 3, "must be text, got 3"),
        ("word", True, "must be text, got True"),
        ("sizes", 3, "must be a list, got 3"),
        ("sizes", "12", "must be a list, got '12'"),
        ("weights", [1], "must be a mapping, got [1]"),
        ("maybe", "x", "must be a whole number, got 'x'"),
        ("word", {"a": "b" * 99}, "must be text, got {'a': 'bbbbb"),
    ],
)
def test_mistyped_values(registry: Registry, field: str, value: Any, message: str) -> None:
    caught = error(registry, "task", task(**{field: value}))
    assert str(caught).startswith(f"task 'transfer', field '{field}': ")
    assert message in str(caught)
    assert caught.path == (field,)
    assert len(str(caught)) < 200


def test_the_position_inside_a_list_is_given(registry: Registry) -> None:
    caught = error(registry, "task", task(sizes=[1, "x"]))
    assert str(caught) == "task 'transfer', field 'sizes.1': must be a whole number, got 'x'"
    assert caught.path == ("sizes", 1)


def test_missing_fields(registry: Registry) -> None:
    assert str(error(registry, "task", "transfer")) == "task 'transfer', field 'steps': is required"


def test_unknown_names_and_fields_have_suggestions(registry: Registry) -> None:
    assert str(error(registry, "dataset", "digit")) == "unknown dataset 'digit'; did you mean 'digits'?"
    assert str(error(registry, "dataset", "zzz")) == "unknown dataset 'zzz'; there are: digits, fussy"
    assert str(error(registry, "dataset", "transfer")) == "unknown dataset 'transfer'; 'transfer' is a task"
    caught = error(registry, "dataset", {"use": "digist"})
    assert caught.path == ("use",)
    assert "did you mean 'digits'" in str(caught)
    caught = error(registry, "dataset", {"use": "digits", "limt": 3})
    assert str(caught) == "dataset 'digits' has no field 'limt'; did you mean 'limit' or 'split'?"
    assert (caught.path, caught.at_key) == (("limt",), True)
    assert str(error(registry, "dataset", {"use": "digits", 7: 3})).endswith(
        "has no field 7; it has: split, limit, crop"
    )


def test_an_unknown_name_mentions_broken_plugins(registry: Registry) -> None:
    registry.broken.append(BrokenPlugin(Plugin("x", "x", "1"), "no"))
    assert "1 plugin(s) failed to load: see `pruningbench doctor`" in str(error(registry, "dataset", "zzz"))


def test_literals_list_the_choices_and_suggest_one(registry: Registry) -> None:
    caught = error(registry, "dataset", {"use": "digits", "split": "tests"})
    assert str(caught) == (
        "dataset 'digits', field 'split': must be 'train' or 'test', got 'tests'; did you mean 'test'?"
    )


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (True, "a dataset is a name or a mapping with `use:`, not True; quote it if it is a name"),
        (None, "a dataset is a name or a mapping with `use:`, not None"),
        (["digits"], "a dataset is a name or a mapping with `use:`, not ['digits']"),
        ({"use": True}, "a dataset given as a mapping needs `use: NAME` with a name that is text"),
        ({"use": ["digits"]}, "a dataset given as a mapping needs `use: NAME` with a name that is text"),
        ({"us": "digits"}, "needs `use: NAME` with a name that is text; did you mean 'us'?"),
        ({}, "a dataset given as a mapping needs `use: NAME` with a name that is text"),
    ],
)
def test_malformed_references(registry: Registry, reference: Any, message: str) -> None:
    assert message in str(error(registry, "dataset", reference))


def test_combinations_that_make_no_sense(registry: Registry) -> None:
    assert str(error(registry, "dataset", {"use": "digits", "limit": -1})) == "dataset 'digits': limit must be >= 0"
    assert "dataset 'fussy': " in str(error(registry, "dataset", {"use": "fussy", "limit": 13}))
    assert "13 brings bad luck" in str(error(registry, "dataset", {"use": "fussy", "limit": 13}))


def test_references_are_bound_and_their_identity_spelled_out(registry: Registry) -> None:
    use = bind(registry, "task", task(source="digits"))
    assert set(use.references) == {"data", "source"}
    assert use.references["data"].component == Digits(split="test")
    test_split = {"use": "toy-plugin/digits", "version": 1, "fields": {"split": "test", "limit": 0, "crop": (2, 2)}}
    fields = use.identity()["fields"]
    assert fields["data"] == test_split
    assert fields["source"] == {**test_split, "fields": {"split": "train", "limit": 0, "crop": (2, 2)}}
    assert use.identity()["version"] == 3
    # however the same thing is said, it is the same thing
    spelled = task(source={"use": "digits"}, data={"use": "digits", "limit": 0, "split": "test"})
    assert bind(registry, "task", spelled).identity() == use.identity()
    assert use.spec()["data"] == {"use": "digits", "split": "test", "limit": 0, "crop": (2, 2)}
    assert bind(registry, "task", use.spec()).identity() == use.identity()


def test_labels_show_what_differs_from_the_defaults(registry: Registry) -> None:
    def label(**fields: Any) -> str:
        return bind(registry, "task", task(**fields)).label

    assert label() == label(data={"use": "digits", "split": "test", "crop": [2, 2]}, rate=0.5) == "transfer"
    assert label(data="digits") == "transfer(data=digits)"
    assert label(data={"use": "digits", "split": "test", "limit": 9}) == "transfer(data=digits(split=test,limit=9))"
    assert label(data="fussy") == "transfer(data=fussy)"
    assert label(source="digits", maybe=3) == "transfer(source=digits,maybe=3)"


def test_equal_references_are_spelled_alike_for_the_component(registry: Registry) -> None:
    a = bind(registry, "task", task(source="digits")).component
    b = bind(registry, "task", task(source={"use": "digits", "limit": 0})).component
    assert a == b


def test_a_reference_left_out_is_none(registry: Registry) -> None:
    assert bind(registry, "task", task()).identity()["fields"]["source"] is None


def test_errors_inside_a_reference_keep_their_path(registry: Registry) -> None:
    caught = error(registry, "task", task(data={"use": "digits", "split": "tets"}))
    assert caught.path == ("data", "split")
    assert str(caught).startswith("task 'transfer', field 'data': dataset 'digits', field 'split': must be")
    assert error(registry, "task", task(data={"use": "digit"})).path == ("data", "use")
    assert error(registry, "task", task(source=3)).path == ("source",)
    caught = error(registry, "task", task(data={"use": "digits", "limt": 3}))
    assert (caught.path, caught.at_key) == (("data", "limt"), True)


def test_what_cannot_change_a_result_is_no_part_of_the_identity(registry: Registry) -> None:
    slow, fast = bind(registry, "task", task(batch_size=1)), bind(registry, "task", task(batch_size=512))
    assert slow.identity() == fast.identity()
    assert "batch_size" not in slow.identity()["fields"]
    assert slow.spec() != fast.spec()
    assert slow.label == "transfer(batch_size=1)"


def test_defaults_that_are_mutable_are_not_shared(registry: Registry) -> None:
    first, second = (bind(registry, "task", task()).component for _ in range(2))
    assert isinstance(first, Transfer)
    assert isinstance(second, Transfer)
    assert first.weights == second.weights == {"a": 1.0}
    assert first.weights is not second.weights
    assert bind(registry, "task", task()).label == "transfer"


def test_the_request_is_not_changed(registry: Registry) -> None:
    reference = task(sizes=[1], data={"use": "digits"})
    bind(registry, "task", reference)
    assert reference == task(sizes=[1], data={"use": "digits"})


def test_annotations_that_cannot_be_read_are_the_plugins_fault(registry: Registry) -> None:
    @dataclass(frozen=True)
    class Hidden(Digits):
        extra: Missing | None = None  # type: ignore[name-defined]  # noqa: F821

    registry.add("dataset", "hidden", Hidden, Plugin("toys", "toy-plugin", "2.1"))
    with pytest.raises(PluginError, match=r"Hidden: its annotations cannot be read .*outside `if TYPE_CHECKING`"):
        bind(registry, "dataset", "hidden")


def test_fields_of_a_type_that_yaml_cannot_say_are_the_plugins_fault(registry: Registry) -> None:
    @dataclass(frozen=True)
    class Odd(Digits):
        extra: Outputs | Component | type | Registry = 3  # type: ignore[assignment]
        handle: Unreadable = dataclasses.field(default=None)  # type: ignore[assignment]

    registry.add("dataset", "odd", Odd, Plugin("toys", "toy-plugin", "2.1"))
    with pytest.raises(PluginError, match="dataset 'odd': its fields cannot be validated: "):
        bind(registry, "dataset", "odd")


class Unreadable:
    """No dataclass and nothing pydantic knows."""
