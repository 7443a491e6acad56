"""Finds the dense network that a pruned network is compared with: the one that was treated alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any


@cache
def _untrained() -> str:
    from pruningbench.plugins import load_registry
    from pruningbench.suite.dense import recipe_as_loaded

    return recipe_as_loaded(load_registry())


def as_loaded(recipe: str) -> bool:
    """Whether a dense row of this recipe is the model as loaded; with any other recipe, the recipe has changed it."""
    return recipe.rpartition("/")[2] == _untrained()


def trains_nothing(recipe: str) -> bool:
    """Whether a recipe only prunes, at once or in rounds, and may recalibrate."""
    return as_loaded(recipe.partition("(")[0])


class References:
    """The dense rows of a board, which decide what a pruned row of a model is compared with.

    A recipe that trains or recalibrates has a dense reference of its own, with the same epochs, data and seed. If
    that reference was requested but is missing (it failed, or has not run yet), there is no comparison, because a
    comparison with the model as loaded would answer another question. Runs from before such references existed have
    only the model as loaded.

    Args:
        measurements: rows of the table of results, including failed ones.
    """

    def __init__(self, measurements: Iterable[Mapping[Any, Any]]) -> None:
        self._dense: dict[str, set[str]] = {}
        self._known: dict[tuple[str, str], str] = {}
        for m in measurements:
            if float(m["sparsity"]) == 0:
                self._dense.setdefault(str(m["model"]), set()).add(str(m["recipe"]))

    def of(self, model: str, recipe: str) -> str:
        """Return the recipe of the dense row that rows of `model` and `recipe` are compared with; "" for none."""
        if (model, recipe) not in self._known:
            dense = self._dense.get(model, set())
            loaded = next((name for name in sorted(dense) if as_loaded(name)), "")
            self._known[model, recipe] = recipe if recipe in dense else loaded
        return self._known[model, recipe]


def compared_with(recipes: Iterable[str]) -> str:
    """Name the dense models that rows are compared with, given the recipes of the dense rows."""
    loaded: set[str] = set()
    changed: set[str] = set()
    for recipe in recipes:
        (loaded if as_loaded(recipe) else changed).add(recipe)
    if not changed:
        return "the dense model as loaded"
    if all(map(trains_nothing, changed)):
        how, where = "recalibrated", "does not recalibrate"
    elif any(map(trains_nothing, changed)):
        how, where = "trained or recalibrated", "does neither"
    else:
        how, where = "trained", "does not train"
    alike = f"the dense model {how} alike ({', '.join(sorted(changed))})"
    return f"{alike}, or as loaded where the recipe {where}" if loaded else alike
