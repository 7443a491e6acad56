"""Finds plugins, guards against broken ones, and turns names into components.

A plugin is an entry point in the group ``pruningbench``; the built-ins come through the same door. A
plugin that cannot be imported or that misbehaves while registering is reported, and all others work on.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pluggy

from pruningbench import hookspecs
from pruningbench.contract.component import KINDS, Component, Kind
from pruningbench.errors import PluginError, UnknownComponentError, did_you_mean

ENTRY_POINTS = "pruningbench"
CORE = "pruningbench"
CORE_RECIPES = {
    "none": "pruningbench.recipes.basic:NoTraining",
    "finetune": "pruningbench.recipes.basic:Finetune",
    "iterative": "pruningbench.recipes.iterative:Iterative",
}
"""Recipes belong to the core: the hooks cover the five kinds that plugins add."""
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HOOKS: dict[Kind, str] = {
    "model": "pruningbench_register_models",
    "pruner": "pruningbench_register_pruners",
    "task": "pruningbench_register_tasks",
    "metric": "pruningbench_register_metrics",
    "dataset": "pruningbench_register_datasets",
}


@dataclass(frozen=True)
class Plugin:
    """A plugin that was found: entry-point name, distribution and version."""

    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin, or one component of it, that does not work, and why."""

    plugin: Plugin
    reason: str


@dataclass
class Entry:
    """A registered component, imported when first needed."""

    kind: Kind
    name: str
    target: type | str
    plugin: Plugin

    def load(self) -> type[Component]:
        """Return the class, importing it if need be.

        Raises:
            PluginError: if it cannot be imported, or is not a component of its kind.
        """
        if isinstance(self.target, str):
            self.target = self._import(self.target)
        return self.target

    def _import(self, target: str) -> type[Component]:
        module, _, attribute = target.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except (Exception, SystemExit) as error:  # a stranger's module may raise anything
            raise PluginError(
                f"{self.kind} {self.name!r} of plugin {self.plugin} cannot be imported from {target!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        _check_class(self.kind, self.name, found, self.plugin)
        return found  # type: ignore[no-any-return]

    @property
    def where(self) -> str:
        """The component's place as ``module:Class``."""
        if isinstance(self.target, str):
            return self.target
        return f"{self.target.__module__}:{self.target.__qualname__}"

    def summary(self) -> str:
        """Return the first line of its docstring, read from the source without importing it."""
        if isinstance(self.target, str):
            return _docstrings(self.target.partition(":")[0]).get(self.target.partition(":")[2], "")
        return _first_line(self.target.__doc__ or "")


@dataclass
class Registry:
    """All components by kind and name, and what went wrong while finding them."""

    entries: dict[Kind, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    plugins: list[Plugin] = field(default_factory=list)
    broken: list[BrokenPlugin] = field(default_factory=list)

    def add(self, kind: Kind, name: str, target: type | str, plugin: Plugin) -> None:
        """Register a component.

        Raises:
            PluginError: for a name that is not kebab-case or is taken, or for something that is no
                component of this kind.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(f"{kind} name {name!r} of plugin {plugin} is not kebab-case (like 'my-{kind}')")
        taken = self.entries[kind].get(name)
        if taken is not None:
            raise PluginError(
                f"{kind} {name!r} is registered twice: by plugin {taken.plugin} and by plugin {plugin}; "
                "the first one stays"
            )
        if isinstance(target, str):
            if not re.fullmatch(r"[\w.]+:\w+", target):
                raise PluginError(f"{kind} {name!r} of plugin {plugin}: {target!r} is not 'module:Class'")
        else:
            _check_class(kind, name, target, plugin)
        self.entries[kind][name] = Entry(kind, name, target, plugin)

    def names(self, kind: Kind) -> list[str]:
        """Return the registered names of a kind, sorted."""
        return sorted(self.entries[kind])

    def entry(self, kind: Kind, name: str) -> Entry:
        """Return what is registered under `name`.

        Raises:
            UnknownComponentError: if nothing is, with the nearest names, and with the other kind if
                the name exists there.
        """
        found = self.entries[kind].get(name)
        if found is not None:
            return found
        hint = did_you_mean(name, self.names(kind))
        others = [other for other in KINDS if name in self.entries[other]]
        if others:
            hint = f"; {name!r} is a {others[0]}"
        elif not hint:
            hint = f"; there are: {', '.join(self.names(kind)) or 'none'}"
        if self.broken:
            hint += f" ({len(self.broken)} plugin(s) failed to load: see `pruningbench doctor`)"
        raise UnknownComponentError(f"unknown {kind} {name!r}{hint}")

    def __iter__(self) -> Iterator[Entry]:
        for kind in KINDS:
            for name in self.names(kind):
                yield self.entries[kind][name]


def _check_class(kind: Kind, name: str, found: Any, plugin: Plugin) -> None:
    where = f"{kind} {name!r} of plugin {plugin}"
    if not (isinstance(found, type) and issubclass(found, Component)):
        raise PluginError(f"{where} is {found!r}, not a Component class")
    if getattr(found, "kind", None) != kind:
        raise PluginError(f"{where}: {found.__name__} is no {kind}")
    if not getattr(vars(found).get("__dataclass_params__"), "frozen", False):
        raise PluginError(f"{where}: {found.__name__} lacks @dataclass(frozen=True)")
    abstract = sorted(getattr(found, "__abstractmethods__", ()))
    if abstract:
        raise PluginError(f"{where}: {found.__name__} does not define {', '.join(abstract)}")


def wanted_plugins(environment: Mapping[str, str] = os.environ) -> frozenset[str] | None:
    """Return which third-party plugins PRUNINGBENCH_PLUGINS allows, or None for all.

    Empty means the built-ins only; otherwise a comma-separated list of entry-point or distribution
    names, loaded beside the built-ins.
    """
    value = environment.get("PRUNINGBENCH_PLUGINS")
    return None if value is None else frozenset(filter(None, (part.strip() for part in value.split(","))))


@cache
def load_registry() -> Registry:
    """Find and register all plugins, once a process."""
    return build_registry(list(entry_points(group=ENTRY_POINTS)), wanted_plugins())


def build_registry(found: list[EntryPoint], wanted: frozenset[str] | None = None) -> Registry:
    """Register the core's recipes and the plugins behind `found`, built-ins first, then by name."""
    registry = Registry()
    core = Plugin("core", CORE, _version_of(CORE))
    for name, target in CORE_RECIPES.items():
        registry.add("recipe", name, target, core)
    unique = {(point.name, point.value): point for point in found}
    ordered = sorted(unique.values(), key=lambda p: (_distribution(p)[0] != CORE, p.name, p.value))
    for point in ordered:
        distribution, version = _distribution(point)
        plugin = Plugin(point.name, distribution, version)
        if distribution == CORE or wanted is None or {point.name, distribution} & wanted:
            _register(registry, plugin, point)
    known = {part for point in ordered for part in (point.name, _distribution(point)[0])}
    for name in sorted((wanted or frozenset()) - known):
        reason = f"is named in PRUNINGBENCH_PLUGINS but not installed{did_you_mean(name, known)}"
        registry.broken.append(BrokenPlugin(Plugin(name, "unknown", "?"), reason))
    return registry


def _register(registry: Registry, plugin: Plugin, point: EntryPoint) -> None:
    """Import one plugin and let it register; whatever goes wrong is recorded, not raised."""
    before = {kind: dict(entries) for kind, entries in registry.entries.items()}
    manager = pluggy.PluginManager(hookspecs.PROJECT)  # one a plugin: a misspelt hook names its plugin
    manager.add_hookspecs(hookspecs)
    try:
        with redirect_stdout(sys.stderr):  # what a plugin prints must not end in somebody's JSON
            module = point.load()
        manager.register(module, name=plugin.name)
        manager.check_pending()
        for kind, hook in _HOOKS.items():
            getattr(manager.hook, hook)(register=_registrar(registry, kind, plugin))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module may raise anything
        registry.entries = before
        registry.broken.append(BrokenPlugin(plugin, f"{type(error).__name__}: {error}"))
    else:
        registry.plugins.append(plugin)


def _registrar(registry: Registry, kind: Kind, plugin: Plugin) -> hookspecs.Register:
    def register(name: str, component: type | str) -> None:
        try:
            registry.add(kind, name, component, plugin)
        except PluginError as error:  # one bad component does not take the plugin's others with it
            registry.broken.append(BrokenPlugin(plugin, str(error)))

    return register


def _distribution(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "unknown", "?"
    try:
        return point.dist.name or "unknown", point.dist.version or "?"
    except Exception:  # noqa: BLE001 - a damaged installation lacks its metadata, in many ways
        return "unknown", "?"


def _version_of(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "?"


@cache
def _docstrings(module: str) -> dict[str, str]:
    """Map class names of a module to the first lines of their docstrings, without running it."""
    try:
        spec = find_spec(module)
        source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
        tree = ast.parse(source)
    except (Exception, SystemExit):  # noqa: BLE001 - finding a submodule runs its package
        return {}
    return {
        node.name: _first_line(ast.get_docstring(node) or "") for node in tree.body if isinstance(node, ast.ClassDef)
    }


def _first_line(docstring: str) -> str:
    return docstring.strip().partition("\n")[0]
