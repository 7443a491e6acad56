"""Built-in components that the core needs, found by what their classes say of themselves, not by name."""

from __future__ import annotations

from pruningbench.contract.component import BUILT_IN, Kind, Use
from pruningbench.errors import PluginError
from pruningbench.plugins import Registry
from pruningbench.suite.binding import bind


def built_in_that(registry: Registry, kind: Kind, says: str) -> str:
    """Return the name of the one built-in component of a kind whose class has the class variable `says` set.

    Raises:
        PluginError: if there is none, or more than one.
    """
    built_in = [entry for entry in registry if entry.kind == kind and entry.plugin.distribution == BUILT_IN]
    names = [entry.name for entry in built_in if getattr(entry.load(), says, False)]
    if len(names) != 1:
        raise PluginError(f"{len(names)} built-in {kind}s say {says!r}, not 1: {names}")
    return names[0]


def recipe_as_loaded(registry: Registry) -> str:
    """Return the name of the built-in recipe that leaves the dense model as it was loaded.

    Raises:
        PluginError: if there is none, or more than one.
    """
    return built_in_that(registry, "recipe", "as_loaded")


def untrained(registry: Registry) -> Use:
    """Return that recipe, with its default fields."""
    return bind(registry, "recipe", recipe_as_loaded(registry), BUILT_IN)
