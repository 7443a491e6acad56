"""What every component is: a frozen dataclass whose fields are its parameters.

The YAML of a suite, the output of `pruningbench show`, the key of a result and the documentation all
come from those fields. This module imports no torch, so that `list` and `plan` stay fast; component
modules should likewise import heavy libraries inside their methods.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pruningbench.base.identity import canonical_json

Kind = Literal["model", "dataset", "pruner", "recipe", "task", "metric", "attribution-method", "discovery-method"]
KINDS: tuple[Kind, ...] = typing.get_args(Kind)


@dataclass(frozen=True)
class Refers:
    """Marks a field whose value names another component of kind `kind`."""

    kind: Kind


ComponentRef = str | dict[str, Any]
"""How a suite names a component: ``name`` or ``{use: name, field: value}``."""

DatasetRef = Annotated[ComponentRef, Refers("dataset")]
"""A field that names a data set; a field of type ``tuple[DatasetRef, ...]`` names several."""

ModelRef = Annotated[ComponentRef, Refers("model")]
"""A field that names a model."""

AttributionMethodRef = Annotated[ComponentRef, Refers("attribution-method")]
"""A field that names an attribution method."""

DiscoveryMethodRef = Annotated[ComponentRef, Refers("discovery-method")]
"""A field that names an object discovery method."""

BUILT_IN = "pruningbench"
"""Distribution of the built-in components."""


def param(default: Any = dataclasses.MISSING, *, doc: str, identity: bool = True, **extra: Any) -> Any:
    """Declare a component's parameter with its documentation.

    Args:
        default: its default; without one the parameter is required.
        doc: one line: meaning, unit and range.
        identity: whether its value can change a result. Speed knobs are not part of the identity.
        extra: further notes for code that reads the field, e.g. ``scores=False`` on a pruner's field
            that changes the masks but not the scores, or ``shown=True`` on one that labels always show. A field
            that was added when results already existed has ``later=True``: at its default, with which those
            results were computed, it is left out of identities, so that their keys stay the same.
    """
    metadata = {"doc": doc, "identity": identity, **extra}
    if isinstance(default, (list, dict, set)):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def fields_in_order(component: type[Component]) -> list[dataclasses.Field[Any]]:
    """Return the fields of a component as people see them: keyword-only ones, which a base class adds, come last."""
    return sorted(dataclasses.fields(component), key=lambda field: bool(field.kw_only))


def range_problem(owner: Any, name: str) -> str:
    """Return the message that the field `name` of a dataclass instance is out of the range that its `doc` states."""
    doc = next(field.metadata["doc"] for field in dataclasses.fields(owner) if field.name == name)
    return f"{name} is {getattr(owner, name)}, out of its range: {doc}"


@dataclass(frozen=True)
class Component:
    """Base of models, data sets, pruners, recipes, tasks, metrics and methods.

    Subclasses are frozen dataclasses.

    Attributes:
        kind: which of `KINDS` it is.
        version: raise it whenever a change alters the results, so that caches and resumed runs notice.
        plain: whether a suite's reference to a component without fields is kept as its bare name.
        example: field values of an example, for `pruningbench show`; needed only if required fields cannot be guessed.
    """

    kind: ClassVar[Kind]
    version: ClassVar[int] = 1
    plain: ClassVar[bool] = False
    example: ClassVar[Mapping[str, Any]] = {}

    def problem(self) -> str | None:
        """Return why this combination of field values makes no sense, or None if it does.

        Types and choices of single fields are checked earlier; this method is for what they cannot express.
        """
        return None


@dataclass(frozen=True)
class Use:
    """A component as a suite uses it: the registered name and the validated instance.

    Attributes:
        name: the registered name; with its distribution (``distribution/name``) if others have the same name.
        component: the instance, fields validated.
        references: for each field that names another component, that component; for item i of a field
            that lists several, the key is ``field.i``.
        plugin: distribution that registered it; `plugin_version` is its version.
        distinguishing: required fields that its label shows, because another use differs in them.
        only_for: labels of the models that a pruner, recipe or task of a suite is for, with ``*`` for any text;
            empty for all models.
        only_seeds, only_sparsities: seeds and sparsities of the suite that a pruner or recipe is for; empty for all.
        alias: label that the suite gives it (``as:``); empty for the label made from name and fields.
    """

    name: str
    component: Component
    references: Mapping[str, Use] = dataclasses.field(default_factory=dict)
    plugin: str = ""
    plugin_version: str = ""
    distinguishing: tuple[str, ...] = ()
    only_for: tuple[str, ...] = ()
    only_seeds: tuple[int, ...] = ()
    only_sparsities: tuple[float, ...] = ()
    alias: str = ""

    def fields(self) -> dict[str, Any]:
        """Return all fields as plain values, defaults included; references are spelled out."""
        values = {f.name: getattr(self.component, f.name) for f in fields_in_order(type(self.component))}
        return {name: self._spelled(name, value, Use.spec) for name, value in values.items()}

    @property
    def full_name(self) -> str:
        """``distribution/name``, whatever else is installed."""
        return self.name if "/" in self.name else f"{self.plugin}/{self.name}"

    def spec(self) -> ComponentRef:
        """Return what a suite file would contain to get exactly this: ``{use: name, field: value, ...}``."""
        fields = self.fields()
        return self.name if type(self.component).plain and not fields else {"use": self.name, **fields}

    def identity(self, *, without: str | Sequence[str] | None = None) -> Any:
        """Return everything about this component that can change a result, as plain JSON.

        Components of other distributions appear under their full names, so that two with the same name are never
        confused.

        Args:
            without: leave out the fields whose declaration sets this note, or one of these, to False.
        """
        notes = (without,) if isinstance(without, str) else without or ()
        declared = {f.name: f for f in dataclasses.fields(self.component)}
        values = {}
        for name, field in declared.items():
            unchanged = field.metadata.get("later") and getattr(self.component, name) == _default(field)
            counts = all(field.metadata.get(note, True) for note in ("identity", *notes))
            if counts and not unchanged:
                values[name] = self._spelled(name, getattr(self.component, name), Use.identity)
        name = self.full_name.removeprefix(f"{BUILT_IN}/") if self.plugin else self.name
        version = type(self.component).version
        if type(self.component).plain and not declared and version == 1:
            return name
        return {"use": name, "version": version, "fields": values}

    def _spelled(self, name: str, value: Any, spell: Callable[[Use], Any]) -> Any:
        """Return a field's value, with `spell` applied to each component that it names."""
        if name in self.references:
            return spell(self.references[name])
        if isinstance(value, (list, tuple)) and f"{name}.0" in self.references:
            return [spell(self.references[f"{name}.{i}"]) for i in range(len(value))]
        return value

    @cached_property
    def texts(self) -> dict[str, str]:
        """What has been derived from the identity as text, by what it is; a few uses serve many cells."""
        return {}

    def canonical(self, *, without: str | None = None) -> str:
        """Return `identity` as canonical JSON."""
        form = f"without {without}"
        if form not in self.texts:
            self.texts[form] = canonical_json(self.identity(without=without))
        return self.texts[form]

    @cached_property
    def label(self) -> str:
        """Short name for tables: the alias, or else the name and the optional fields that differ from their defaults.

        Fields declared with the note ``shown=True`` are always part of it, by value only
        (for a field that names a component, by its label).
        """
        if self.alias:
            return self.alias
        changed = []
        for field in fields_in_order(type(self.component)):
            value = getattr(self.component, field.name)
            default = _default(field)
            reference = self.references.get(field.name)
            if field.metadata.get("shown"):
                changed.append(reference.label if reference else _short(value))
            if field.metadata.get("shown") or (
                default is dataclasses.MISSING and field.name not in self.distinguishing
            ):
                continue
            if reference is not None and not reference._is(default):
                changed.append(f"{field.name}={reference.label}")
            elif reference is None and _plain(value) != _plain(default):
                changed.append(f"{field.name}={_short(value)}")
        return f"{self.name}({','.join(changed)})" if changed else self.name

    def _is(self, reference: Any) -> bool:
        """Whether `reference`, as a suite or a default spells it, names exactly this."""
        if not isinstance(reference, (str, Mapping)):
            return False
        spelled = {"use": reference} if isinstance(reference, str) else dict(reference)
        if spelled.pop("use", None) not in (self.name, self.full_name, self.full_name.rpartition("/")[2]):
            return False
        for field in dataclasses.fields(self.component):
            expected = spelled.get(field.name, _default(field))
            inner = self.references.get(field.name)
            value = getattr(self.component, field.name)
            if not (inner._is(expected) if inner else _plain(value) == _plain(expected)):
                return False
        return True


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_short(item) for item in value) + "]"
    if isinstance(value, Mapping):
        fields = {k: v for k, v in value.items() if k != "use"}
        inside = ",".join(f"{k}={_short(v)}" for k, v in fields.items())
        return f"{value.get('use', '')}({inside})" if inside else str(value.get("use", "{}"))
    return f"{value:g}" if isinstance(value, float) else str(value)
