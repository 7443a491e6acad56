"""Checks of a whole plugin: of its import, and of every component that it registers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pruningbench.contract.component import KINDS, Kind
from pruningbench.errors import PluginError, PruningBenchError, UsageError, did_you_mean
from pruningbench.plugins import Registration, Registry, load_registry
from pruningbench.suite.binding import BindingError
from pruningbench.suite.examples import example_of
from pruningbench.testing.checks import Finding, findings
from pruningbench.testing.imports import import_findings

EXAMPLE = "Users copy it from `pruningbench show`: give the class an `example`, a mapping of its required fields."


def registrations_of(plugin: str, registry: Registry) -> list[Registration]:
    """Return the components that a distribution, or a plugin of this name or module, registers.

    Raises:
        UsageError: if there is none; the message says what is known of a plugin that is broken.
    """
    found = [r for r in registry if plugin in (r.plugin.distribution, r.plugin.name, _module(r))]
    broken = [one for one in registry.broken if plugin in (one.plugin.distribution, one.plugin.name)]
    if broken and not found:
        raise PluginError(f"{plugin}: {broken[0].reason}")
    if not found:
        known = sorted({r.plugin.distribution for r in registry} | {r.plugin.name for r in registry})
        hint = did_you_mean(plugin, known) or f"; installed plugins are: {', '.join(known)}"
        raise UsageError(f"no plugin {plugin!r} is installed{hint}")
    return found


def package_findings(plugin: str, *, registry: Registry | None = None) -> Iterator[Finding]:
    """Yield the violations of the contract by a plugin: by its import, then by each of its components.

    Components are used with their examples (`Component.example`, or required fields filled in). Models and data sets
    whose files are not on this machine are checked as far as that is possible without them.

    Args:
        plugin: a distribution, an entry point or a module.
        registry: where it is registered; the installed plugins by default.

    Raises:
        UsageError: if there is no such plugin.
        PluginError: if it could not be loaded at all.
    """
    registry = registry or load_registry()
    found = registrations_of(plugin, registry)
    for module in sorted({_module(registration) for registration in found}):
        yield from (Finding(f"module {module!r}", *parts) for parts in import_findings(module))
    for registration in found:
        yield from _of_component(registration, registry)


def checks_of(plugin: str) -> list[Any]:
    """Return one parameter of pytest for each component of a plugin, as `pruningbench.testing` shows.

    Each is a function without arguments that raises `PluginError` with all findings on its component.
    """
    import pytest

    registry = load_registry()

    def of(registration: Registration) -> Any:
        def run() -> None:
            problems = list(map(str, _of_component(registration, registry)))
            if problems:
                raise PluginError("\n".join(problems))

        return pytest.param(run, id=f"{registration.kind}-{registration.name}")

    return [of(registration) for registration in registrations_of(plugin, registry)]


def _of_component(registration: Registration, registry: Registry) -> Iterator[Finding]:
    kind: Kind = next(kind for kind in KINDS if kind == registration.kind)
    subject = f"{kind} {registration.name!r}"
    try:
        registration.load()
        example = example_of(registry, kind, registration)
    except BindingError as error:
        yield Finding(subject, "example", f"its example does not bind: {error}", EXAMPLE)
        return
    except PruningBenchError as error:
        yield Finding(subject, "load", str(error), "A suite can name it only if its class can be imported.")
        return
    fields = {} if isinstance(example, str) else {name: value for name, value in example.items() if name != "use"}
    name = registry.name_of(registration)
    yield from findings(kind, name, registry=registry, **fields)


def _module(registration: Registration) -> str:
    return registration.where.partition(":")[0].partition(".")[0]
