"""Suites: turn YAML into validated components on every axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pruningbench.base.files import expanded
from pruningbench.base.identity import content_hash
from pruningbench.base.yamlsource import Document, KeyPath, parse_yaml, read_yaml
from pruningbench.contract.component import ComponentRef, Kind, Use
from pruningbench.contract.precision import FULL, PRECISIONS
from pruningbench.errors import SuiteError, UnknownComponentError, UsageError, did_you_mean
from pruningbench.plugins import Registry
from pruningbench.pruning.scope import Scope
from pruningbench.suite.beside import (
    AS,
    FOR,
    LIMITED,
    NAME,
    ONLY,
    RESTRICTED,
    item_of,
    only_of,
    repeated,
    repeated_label,
    with_beside,
    without_beside,
)
from pruningbench.suite.binding import BindingError, bind, data_of_model
from pruningbench.suite.filters import Filter
from pruningbench.suite.labels import labelled, with_distinguishing_fields
from pruningbench.suite.settings import apply_setting

IDENTITY = {"identity": True}
IDENTITY_IF_GIVEN = {"identity": True, "left_out": None}
"""Part of the identity unless it is None, so that suites and cells from before the field existed keep their keys."""
IDENTITY_IF_NOT_FULL = {"identity": True, "left_out": FULL}
"""The same for the precision, whose default is what there was before the field."""
KNOB = {"identity": False}


@dataclass(frozen=True)
class Suite:
    """A validated suite; every field declares whether it is part of the suite's identity.

    Attributes:
        name: name of the suite and default name of its run folder.
        models, pruners, recipes: components of the three axes.
        sparsities: shares of prunable weights to prune, in [0, 1), ascending; 0 is the dense model.
        seeds: integers; each repeats every cell.
        tasks: components by label; the label is the name, extended if the suite uses the name more than once.
        metrics: metrics added to every task whose outputs they consume.
        data: training and scoring data for all models; None for each model's own data.
        scope: which parameters may be pruned.
        limit: number of samples to use from each data set, for rehearsals; None for all.
        precision: of the tasks' forward passes: ``float32``, ``tf32`` or ``bf16``; pruning and training have their own.
        batch_size: largest batch of the tasks. A knob: it changes speed and memory, not results.
        keep: what run folders store beside the results: ``weights`` of all pruned networks, or nothing. A knob.
        description: one line for people.
    """

    name: str = field(metadata=IDENTITY)
    models: tuple[Use, ...] = field(metadata=IDENTITY)
    pruners: tuple[Use, ...] = field(metadata=IDENTITY)
    sparsities: tuple[float, ...] = field(metadata=IDENTITY)
    recipes: tuple[Use, ...] = field(metadata=IDENTITY)
    seeds: tuple[int, ...] = field(metadata=IDENTITY)
    tasks: Mapping[str, Use] = field(metadata=IDENTITY)
    metrics: tuple[Use, ...] = field(default=(), metadata=IDENTITY)
    data: Use | None = field(default=None, metadata=IDENTITY)
    scope: Scope = field(default=Scope(), metadata=IDENTITY)
    limit: int | None = field(default=None, metadata=IDENTITY_IF_GIVEN)
    precision: str = field(default=FULL, metadata=IDENTITY_IF_NOT_FULL)
    batch_size: int = field(default=128, metadata=KNOB)
    keep: str = field(default="", metadata=KNOB)
    description: str = field(default="", metadata=KNOB)

    def resolved(self) -> dict[str, Any]:
        """Return the suite as plain values with every default spelled out; loading them gives the same suite."""
        spelled: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "models": [item_of(use) for use in self.models],
            "pruners": [item_of(use) for use in self.pruners],
            "sparsities": list(self.sparsities),
            "recipes": [item_of(use) for use in self.recipes],
            "seeds": list(self.seeds),
            "tasks": [item_of(use) for use in self.tasks.values()],
            "metrics": [use.spec() for use in self.metrics],
            "scope": {"head": self.scope.head, "exclude": list(self.scope.exclude)},
            "batch_size": self.batch_size,
        }
        if self.data is not None:
            spelled["data"] = self.data.spec()
        if self.limit is not None:
            spelled["limit"] = self.limit
        if self.precision != FULL:
            spelled["precision"] = self.precision
        if self.keep:
            spelled["keep"] = self.keep
        return spelled

    def identity(self) -> dict[str, Any]:
        """Return everything that can change a result of the suite."""
        return {name: _identity_of(value) for name, value in identity_fields(self).items()}

    @property
    def digest(self) -> str:
        """Hash of the identity."""
        return content_hash(self.identity())

    def to_yaml(self) -> str:
        """Return the resolved suite as a suite file."""
        return yaml.safe_dump(_lists(self.resolved()), sort_keys=False, width=100, default_flow_style=None)


def identity_fields(instance: Any) -> dict[str, Any]:
    """Return the fields of a suite or cell that are part of its identity, by name."""
    values = {f.name: (f.metadata, getattr(instance, f.name)) for f in dataclasses.fields(instance)}
    return {
        name: value
        for name, (notes, value) in values.items()
        if notes["identity"] and not ("left_out" in notes and value == notes["left_out"])
    }


def _identity_of(value: Any) -> Any:
    if isinstance(value, Use):
        given = {FOR: list(value.only_for), ONLY: only_of(value)}
        beside = {key: limits for key, limits in given.items() if limits}
        return {**value.identity(), **beside} if beside else value.identity()
    if isinstance(value, Scope):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: _identity_of(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_identity_of(item) for item in value]
    return value


def _lists(value: Any) -> Any:
    """Turn tuples into lists, because YAML has no tuples."""
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    return value


def find_suite(name: str, registry: Registry) -> tuple[Path, str]:
    """Return the file of a suite given by path or registered name, and the distribution that it comes from.

    The distribution is "" for a path.

    Raises:
        SuiteError: if neither such a file nor such a name exists.
    """
    looks_like_path = name.endswith((".yaml", ".yml")) or "\\" in name or name.startswith((".", "/", "~"))
    unknown = ""
    if not looks_like_path:
        try:
            registration = registry.entry("suite", name)
        except UnknownComponentError as error:
            unknown = str(error)
        else:
            return registration.load(), registration.plugin.distribution
    path = expanded(name)
    try:
        exists = path.exists()
    except OSError as error:
        raise SuiteError(f"{name[:80]}: cannot be read ({error.strerror})") from None
    if exists:
        return path, ""
    if looks_like_path or "/" in name:
        raise SuiteError(f"{name}: there is no such file")
    raise SuiteError(f"{unknown} (or give the path of a .yaml file)")


def load_suite(name: str, registry: Registry, settings: Sequence[str] = ()) -> Suite:
    """Load a suite by path or registered name, and apply ``KEY=VALUE`` settings to it.

    Raises:
        SuiteError: names the file, line and column of the error.
    """
    path, home = find_suite(name, registry)
    document = read_yaml(path, source=path.name if home else name)
    for setting in settings:
        apply_setting(document, setting)
    return build_suite(document, registry, home)


def suite_from_text(text: str, registry: Registry, *, source: str = "suite", settings: Sequence[str] = ()) -> Suite:
    """Build a suite from YAML text, and apply ``KEY=VALUE`` settings to it."""
    document = parse_yaml(text, source)
    for setting in settings:
        apply_setting(document, setting)
    return build_suite(document, registry)


def build_suite(document: Document, registry: Registry, home: str = "") -> Suite:
    """Validate a parsed suite and bind its components.

    Args:
        document: the parsed file.
        registry: where names are looked up.
        home: distribution that the suite comes from; see `bind`.
    """
    return _Builder(document, registry, home).build()


class _Builder:
    """Reads one axis after another; every error names its place in the file."""

    def __init__(self, document: Document, registry: Registry, home: str) -> None:
        self.document, self.registry, self.home = document, registry, home
        self.value: dict[str, Any] = document.value

    def build(self) -> Suite:
        if not isinstance(self.document.value, dict):
            raise self.document.error((), "a suite is a mapping with `name:`, `models:`, `pruners:`, `tasks:` ...")
        names = [f.name for f in dataclasses.fields(Suite)]
        for key in self.value:
            if key not in names:
                hint = did_you_mean(key, names) or f"; keys are: {', '.join(names)}"
                raise self.document.error((key,), f"unknown key {key!r}{hint}", key=True)
        suite = Suite(
            name=self._name(),
            description=self._typed("description", str, "text", ""),
            models=self._axis("models", "model"),
            pruners=self._axis("pruners", "pruner"),
            sparsities=self._sparsities(),
            recipes=self._axis("recipes", "recipe", default=["none"]),
            seeds=self._seeds(),
            tasks=self._tasks(),
            metrics=self._axis("metrics", "metric", default=[], may_be_empty=True),
            data=self._bind("dataset", self.value["data"], ("data",)) if self.value.get("data") is not None else None,
            scope=self._scope(),
            limit=self._positive("limit", None),
            precision=self._precision(),
            batch_size=self._positive("batch_size", 128) or 128,
            keep=self._keep(),
        )
        for use in suite.models:
            self._model_data(use)
        self._check_limits(suite)
        self._check_repeated("pruners", suite.pruners, suite.models)
        return suite

    def _check_limits(self, suite: Suite) -> None:
        """Make sure that each ``for:`` names a model of the suite, and each ``only:`` its seeds and sparsities."""
        for key in RESTRICTED:
            for i, restricted in enumerate(getattr(suite, key)):
                for axis, values in only_of(restricted).items():
                    self._check_only((key, i, ONLY, axis), values, getattr(suite, axis))
        labels = [use.label for use in suite.models]
        for key, uses in zip(LIMITED, (suite.pruners, suite.recipes, suite.tasks.values()), strict=True):
            for i, use in enumerate(uses):
                for label in use.only_for:
                    try:
                        Filter(FOR, "model", label).check(labels)
                    except UsageError as error:
                        raise self.document.error((key, i, FOR), str(error)) from None

    def _check_repeated(self, key: str, uses: Sequence[Use], models: Sequence[Use] | None = None) -> None:
        if (twice := repeated(uses, models)) is not None:
            i, j, where = twice
            raise self.document.error((key, j), f"{key}: {uses[j].label} is listed twice{where} (items {i} and {j})")

    def _check_only(self, path: KeyPath, values: Sequence[float], of_suite: Sequence[float]) -> None:
        strange = [value for value in values if value not in of_suite]
        if strange:
            wrong = f"only.{path[-1]}: {strange[0]:g} is not in {path[-1]} of the suite"
            raise self.document.error(path, wrong)

    def _name(self) -> str:
        name = self.value.get("name")
        if name is None:
            raise self.document.error((), "a suite needs a `name:`")
        if not isinstance(name, str) or not NAME.fullmatch(name) or name.endswith("."):
            raise self.document.error(
                ("name",), f"name must be text of letters, digits, '.', '_' and '-', got {name!r}"
            )
        return name

    def _typed(self, key: str, kind: type, words: str, default: Any) -> Any:
        value = self.value.get(key, default)
        if not isinstance(value, kind):
            raise self.document.error((key,), f"{key} must be {words}, got {value!r}")
        return value

    def _list(self, key: str, default: list[Any] | None, *, may_be_empty: bool = False) -> list[Any]:
        if key not in self.value and default is None:
            raise self.document.error((), f"the suite lacks `{key}:`")
        value = self.value.get(key, default)
        if not isinstance(value, list):
            raise self.document.error((key,), f"{key} must be a list, got {value!r}; write [{value}]")
        if not value and not may_be_empty:
            raise self.document.error((key,), f"{key} is empty: name at least one, or there is nothing to run")
        return value

    def _axis(
        self, key: str, kind: Kind, *, default: list[Any] | None = None, may_be_empty: bool = False
    ) -> tuple[Use, ...]:
        references = self._list(key, default, may_be_empty=may_be_empty)
        uses = [self._item(key, kind, reference, i) for i, reference in enumerate(references)]
        self._check_repeated(key, uses, [] if key == "pruners" else None)  # the models are not known yet
        labelled_uses = with_distinguishing_fields(uses)
        if (twin := repeated_label(labelled_uses)) is not None:
            same = f"as: {labelled_uses[twin].alias!r} is also the label of another item of {key}"
            raise self.document.error((key, twin, AS), same)
        return labelled_uses

    def _item(self, key: str, kind: Kind, reference: Any, i: int) -> Use:
        """Bind an item of an axis, with its label and the models that it is for."""
        use = self._bind(kind, without_beside(key, reference), (key, i))
        try:
            return with_beside(key, reference, use, self.registry)
        except BindingError as error:
            raise self.document.error((key, i, *error.path), str(error)) from None

    def _bind(self, kind: Kind, reference: ComponentRef, path: KeyPath) -> Use:
        try:
            return bind(self.registry, kind, reference, self.home)
        except BindingError as error:
            raise self.document.error((*path, *error.path), str(error), key=error.at_key) from None

    def _sparsities(self) -> tuple[float, ...]:
        values = self._list("sparsities", None)
        for i, value in enumerate(values):
            path = ("sparsities", i)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise self.document.error(path, f"a sparsity is a number in [0, 1), got {value!r}")
            if not 0 <= value < 1:
                hint = f"; for {value:g} percent write {value / 100:g}" if 1 < value < 100 else ""
                raise self.document.error(path, f"sparsity {value} is outside [0, 1){hint}")
            if float(value) in map(float, values[:i]):
                raise self.document.error(path, f"sparsity {value} is listed twice")
        return tuple(sorted(float(value) for value in values))

    def _seeds(self) -> tuple[int, ...]:
        values = self._list("seeds", [0])
        for i, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
                raise self.document.error(("seeds", i), f"a seed is a whole number in [0, 2^63), got {value!r}")
            if value in values[:i]:
                raise self.document.error(("seeds", i), f"seed {value} is listed twice")
        return tuple(values)

    def _positive(self, key: str, default: int | None) -> int | None:
        value = self.value.get(key, default)
        if value is None and default is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.document.error((key,), f"{key} must be a whole number, got {value!r}")
        if value < 1:
            raise self.document.error((key,), f"{key} must be at least 1, got {value}")
        return value

    def _precision(self) -> str:
        value = self.value.get("precision", FULL)
        if value not in PRECISIONS:
            hint = did_you_mean(str(value), PRECISIONS)
            raise self.document.error(
                ("precision",), f"precision must be one of {', '.join(PRECISIONS)}, got {value!r}{hint}"
            )
        return str(value)

    def _keep(self) -> str:
        value = self.value.get("keep")
        choice = value[0] if isinstance(value, list) and len(value) == 1 else value
        if choice not in (None, "", "weights"):
            raise self.document.error(("keep",), f"keep must be weights, or left out, got {value!r}")
        return choice or ""

    def _tasks(self) -> dict[str, Use]:
        return labelled(self._axis("tasks", "task"))

    def _scope(self) -> Scope:
        value = self._typed("scope", dict, "a mapping with `head:` and `exclude:`", {})
        names = [f.name for f in dataclasses.fields(Scope)]
        for key in value:
            if key not in names:
                raise self.document.error(("scope", key), f"scope has no {key!r}{did_you_mean(key, names)}", key=True)
        head, exclude = value.get("head", True), value.get("exclude", [])
        if not isinstance(head, bool):
            raise self.document.error(("scope", "head"), f"scope.head must be true or false, got {head!r}")
        if not isinstance(exclude, list) or not all(isinstance(pattern, str) for pattern in exclude):
            wrong = f"scope.exclude must be a list of patterns, got {exclude!r}"
            raise self.document.error(("scope", "exclude"), wrong)
        return Scope(head, tuple(exclude))

    def _model_data(self, use: Use) -> None:
        """Check a model's own training data now rather than during a run."""
        data_of_model(self.registry, use)
