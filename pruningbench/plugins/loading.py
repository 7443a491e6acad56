"""Builds a registry from entry points."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TextIO

from pruningbench.base.reading import one_line
from pruningbench.contract.component import BUILT_IN, KINDS, Kind
from pruningbench.errors import PluginError, did_you_mean
from pruningbench.hookspecs import CONTRACT_VERSION
from pruningbench.plugins.containment import contained
from pruningbench.plugins.registration import EXTENSIONS, BrokenPlugin, Extension, Plugin
from pruningbench.plugins.registry import Registry

ENTRY_POINTS = "pruningbench"
STATED = "pruningbench_contract"
"""Name of the variable in a plugin's module that states the contract version that the plugin was written for."""
HOOKS: dict[Kind | Extension, str] = {
    kind: f"pruningbench_register_{kind.replace('-', '_')}s" for kind in (*KINDS, *EXTENSIONS)
}
"""The hook that registers each kind."""


def wanted_plugins(environment: Mapping[str, str] = os.environ) -> frozenset[str] | None:
    """Return which third-party plugins PRUNINGBENCH_PLUGINS allows, or None for all.

    An empty value means the built-ins only; otherwise it is a comma-separated list of entry-point or distribution
    names that are loaded in addition to the built-ins.
    """
    value = environment.get("PRUNINGBENCH_PLUGINS")
    return None if value is None else frozenset(filter(None, (part.strip() for part in value.split(","))))


@cache
def load_registry() -> Registry:
    """Find and register all plugins, once per process."""
    return build_registry(list(entry_points(group=ENTRY_POINTS)), wanted_plugins())


def build_registry(entry_points: list[EntryPoint], selected: frozenset[str] | None = None) -> Registry:
    """Register the plugins behind `entry_points`, built-ins first, then by name."""
    registry = Registry()
    installed: dict[int, tuple[str, str]] = {}  # reading the metadata of a distribution takes milliseconds
    plugins: dict[tuple[str, str], tuple[Plugin, EntryPoint]] = {}
    for point in entry_points:
        if id(point.dist) not in installed:
            installed[id(point.dist)] = _distribution(point)
        plugins[point.name, point.value] = (Plugin(point.name, *installed[id(point.dist)]), point)
    ordered = sorted(plugins.values(), key=lambda pair: (pair[0].distribution != BUILT_IN, pair[0].name, pair[1].value))
    for plugin, point in ordered:
        if plugin.distribution == BUILT_IN or selected is None or {plugin.name, plugin.distribution} & selected:
            _register(registry, plugin, point)
    names = {part for plugin, _ in ordered for part in (plugin.name, plugin.distribution)}
    for name in sorted((selected or frozenset()) - names):
        reason = f"is named in PRUNINGBENCH_PLUGINS but not installed{did_you_mean(name, names)}"
        registry.broken.append(BrokenPlugin(Plugin(name, "unknown", "?"), reason))
    return registry


class _Heard:
    """Passes text on to a stream, whose other attributes it has, and remembers how the text begins.

    A plugin may keep it as its standard output, such as in the handler of a logger.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.begin = stream, ""

    def write(self, text: str) -> int:
        self.begin = (self.begin + text)[:200]
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _register(registry: Registry, plugin: Plugin, point: EntryPoint) -> None:
    """Import one plugin and let it register; whatever goes wrong is recorded, not raised."""
    before = {kind: dict(entries) for kind, entries in registry.entries.items()}
    key = f"{plugin.distribution}/{plugin.name}"
    changed: list[str] = []
    # a third party's code is watched; the built-in plugins are tested not to change anything
    held = nullcontext() if plugin.distribution == BUILT_IN else contained(f"plugin {plugin}", changed.append)
    printed = _Heard(sys.stderr)
    try:
        with held, redirect_stdout(printed):  # what a plugin prints must not end up in JSON output
            module = point.load()
            _check_version(module)
            registry.door.admit(key, module)
            for kind, hook in HOOKS.items():
                registry.door.call_one(key, hook, register=_registrar(registry, kind, plugin))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a third-party module may raise anything
        registry.door.dismiss(key)
        registry.entries = before
        text = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        registry.broken.append(BrokenPlugin(plugin, text))
    else:
        registry.plugins.append(plugin)
    finally:
        if printed.begin.strip():
            changed.append(f"it printed {one_line(printed.begin, 80)!r}")
        registry.contained += [BrokenPlugin(plugin, words) for words in changed]


def _check_version(module: ModuleType) -> None:
    """Check that this pruningbench supports the contract that a plugin was written for.

    A plugin that states no version is assumed to be written for the first one.

    Raises:
        PluginError: if it does not; the message says what to do.
    """
    stated = getattr(module, STATED, "1.0")
    match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", stated) if isinstance(stated, str) else None
    if match is None:
        raise PluginError(f"{STATED} is {stated!r}, but must be text like {CONTRACT_VERSION!r}")
    major, minor = map(int, match.groups())
    own_major, own_minor = map(int, CONTRACT_VERSION.split("."))
    if (major, minor) > (own_major, own_minor):
        raise PluginError(
            f"it was written for contract {stated}, and this pruningbench has {CONTRACT_VERSION}: upgrade pruningbench"
        )
    if major < own_major:
        raise PluginError(
            f"it was written for contract {stated}, and this pruningbench has {CONTRACT_VERSION}, which may need "
            "changes in the plugin: upgrade it, or install an older pruningbench"
        )


def _registrar(registry: Registry, kind: Kind | Extension, plugin: Plugin) -> Callable[[str, Any], None]:
    def register(name: str, target: Any) -> None:
        try:
            registry.add(kind, name, target, plugin)
        except PluginError as error:  # one bad component does not affect the plugin's other components
            registry.broken.append(BrokenPlugin(plugin, str(error)))

    return register


def _distribution(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "unknown", "?"
    try:
        return point.dist.name or "unknown", point.dist.version or "?"
    except Exception:  # noqa: BLE001 - reading a damaged installation's metadata fails in many ways
        return "unknown", "?"
