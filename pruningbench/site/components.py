"""What the installed plugins and the suites of the runs say about a name in the results."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from pruningbench.base.files import read_plain
from pruningbench.base.yamlsource import MOST_BYTES
from pruningbench.contract.component import Component, Kind, Use
from pruningbench.errors import PruningBenchError
from pruningbench.plugins import Registration, Registry
from pruningbench.site.source import Source
from pruningbench.store.runfolder import RunFolder
from pruningbench.suite.reference import Description, describe, describe_fields
from pruningbench.suite.schema import Suite, suite_from_text


@dataclass(frozen=True)
class Field:
    """A field of a component: its declaration, and the value that a suite gave it.

    Attributes:
        name, type, doc: as `pruningbench show` says.
        default: as JSON, or "required".
        value: as JSON; "" if it is the default, or unknown.
        identity: whether it can change a result.
    """

    name: str
    type: str
    doc: str
    default: str
    value: str
    identity: bool


@dataclass(frozen=True)
class DataUse:
    """A data set that a component uses: the field that names it, its label, its terms and its origin."""

    field: str
    label: str
    licence: str
    citation: str


@dataclass(frozen=True)
class About:
    """What is known of a name.

    Attributes:
        kind, label: as in the results.
        problem: why nothing else is known; "" if the rest is.
        registration: where the component comes from.
        component: its class.
        description: its docstring, in parts.
        fields: its fields.
        data: data sets that it uses.
        licence: of the distribution that it comes from, in that distribution's words; "" if it says none.
    """

    kind: str
    label: str
    problem: str = ""
    registration: Registration | None = None
    component: type[Component] | None = None
    description: Description | None = None
    fields: tuple[Field, ...] = ()
    data: tuple[DataUse, ...] = ()
    licence: str = ""

    @property
    def summary(self) -> str:
        """One line, "" if nothing is known."""
        return self.description.summary if self.description else ""


@dataclass
class Catalogue:
    """Looks up the names of the results of a site.

    Attributes:
        registry: the installed components.
        suites: the suites of the runs, as far as the installed plugins know their components.
    """

    registry: Registry
    suites: Sequence[Suite]
    _known: dict[tuple[str, str], About] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source) -> Catalogue:
        """Read the suites of the runs; one that cannot be read, or names what is not installed, is left out."""
        read = (suite_of(RunFolder(run), source.registry) for run in source.runs)
        return cls(source.registry, [suite for suite in read if suite is not None])

    @cached_property
    def _uses(self) -> dict[tuple[str, str], Use]:
        return {key: use for suite in reversed(self.suites) for key, use in _uses_of(suite)}

    def about(self, kind: Kind, label: str) -> About:
        """Return what is known of a component, given its label in the results."""
        key = (kind, label)
        if key not in self._known:
            self._known[key] = self._look_up(kind, label)
        return self._known[key]

    def _look_up(self, kind: Kind, label: str) -> About:
        use = self._uses.get((kind, label))
        try:
            registration = self.registry.entry(kind, use.name if use else self._name(kind, label))
            component = registration.load()
            return About(
                kind, label, registration=registration, component=component, description=describe(component),
                fields=tuple(_fields(component, use)), data=tuple(_data(use)) if use else (),
                licence=licence_of(registration.plugin.distribution),
            )  # fmt: skip
        except PruningBenchError as error:
            return About(kind, label, problem=str(error))
        except Exception as error:  # noqa: BLE001 - annotations, defaults and class attributes of a third party
            return About(kind, label, problem=f"it cannot be described ({type(error).__name__}: {error})")

    def _name(self, kind: Kind, label: str) -> str:
        """Return the name in a label: what precedes the fields, or the longest name that a task's label extends."""
        name = label.partition("(")[0]
        known = self.registry.names(kind)
        if kind == "task" and name not in known:
            return max((one for one in known if name.startswith(f"{one}-")), key=len, default=name)
        return name


def suite_of(run: RunFolder, registry: Registry) -> Suite | None:
    """Return the suite of a run; None if it cannot be read, or names something that is not installed."""
    try:
        return suite_from_text(suite_text(run), registry, source="suite.yaml")
    except (OSError, UnicodeDecodeError, PruningBenchError):
        return None


def suite_text(run: RunFolder) -> str:
    """Return the suite file of a run.

    Raises:
        OSError, UnicodeDecodeError: if it cannot be read.
    """
    return read_plain(run.suite, most=MOST_BYTES).decode("utf-8")


def licence_of(distribution: str) -> str:
    """Return the licence that an installed distribution states, at most 80 characters; "" if it states none."""
    try:
        stated = metadata(distribution)
    except (PackageNotFoundError, ValueError):
        return ""
    for name in ("License-Expression", "License"):
        words = str((stated.get_all(name) or [""])[0]).strip().partition("\n")[0]
        if words:
            return words[:80]
    classifiers = stated.get_all("Classifier") or ()
    return ", ".join(line.rpartition("::")[2].strip() for line in classifiers if "License ::" in line)[:80]


def links_in(text: str) -> Iterator[tuple[str, str]]:
    """Split text into pieces (words, address): the address is "" except for a plain ``http(s)`` address in the text."""
    place = 0
    for match in _ADDRESS.finditer(text):
        address = match[0].rstrip(".,;:)'")
        yield text[place : match.start()], ""
        yield address, address
        place = match.start() + len(address)
    yield text[place:], ""


_ADDRESS = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9./_~%#?=&+()-]{3,200}")


def _uses_of(suite: Suite) -> Iterator[tuple[tuple[str, str], Use]]:
    for kind, uses in (
        ("model", suite.models),
        ("pruner", suite.pruners),
        ("recipe", suite.recipes),
        ("metric", suite.metrics),
    ):
        for use in uses:
            yield (kind, use.label), use
    for label, use in suite.tasks.items():
        yield ("task", label), use


def _fields(component: type[Component], use: Use | None) -> Iterator[Field]:
    given = use.fields() if use else {}
    for described in describe_fields(component):
        name = described["name"]
        default = "required" if described["required"] else _json(described["default"])
        value = _json(given[name]) if name in given else ""
        yield Field(
            name, described["type"], described["doc"], default, "" if value == default else value, described["identity"]
        )


def _json(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


def _data(use: Use) -> Iterator[DataUse]:
    """Yield the data sets that a component names, also through other components."""
    for name, other in use.references.items():
        if other.component.kind == "dataset":
            card = getattr(other.component, "card", None)
            licence, citation = (str(getattr(card, word, "")) for word in ("licence", "citation"))
            yield DataUse(name, other.label, licence, citation)
        for inner in _data(other):
            yield dataclasses.replace(inner, field=f"{name}.{inner.field}")
