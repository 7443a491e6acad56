"""The recipe under which the dense model is measured as loaded, found by what its class says of itself."""

from __future__ import annotations

from pruningbench.contract.component import BUILT_IN, Use
from pruningbench.contract.recipe import Recipe
from pruningbench.errors import PluginError
from pruningbench.plugins import Registry
from pruningbench.suite.binding import bind


def recipe_as_loaded(registry: Registry) -> str:
    """Return the name of the built-in recipe that leaves the dense model as it was loaded.

    Raises:
        PluginError: if there is none, or more than one.
    """
    built_in = [entry for entry in registry if entry.kind == "recipe" and entry.plugin.distribution == BUILT_IN]
    names = [entry.name for entry in built_in if _says_so(entry.load())]
    if len(names) != 1:
        raise PluginError(f"{len(names)} built-in recipes leave the dense model as loaded, not 1: {names}")
    return names[0]


def _says_so(recipe: object) -> bool:
    return isinstance(recipe, type) and issubclass(recipe, Recipe) and recipe.as_loaded


def untrained(registry: Registry) -> Use:
    """Return that recipe, with its default fields."""
    return bind(registry, "recipe", recipe_as_loaded(registry), BUILT_IN)
