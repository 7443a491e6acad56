"""Which dense network a pruned one is compared with: the one that was trained as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

UNTRAINED = "none"
"""Name of the recipe that trains nothing; the dense model as loaded stands under it."""


def as_loaded(recipe: str) -> bool:
    """Whether a dense row of this recipe is the model as loaded; under all others it is trained by the recipe."""
    return recipe.partition("(")[0] == UNTRAINED


class References:
    """The dense rows of a board: which recipe's one a pruned row of a model is compared with.

    A recipe that trains has a dense reference of its own, trained for the same epochs, with the same seed. Where
    it was asked for and is not there (it failed, or is still to be run), there is nothing to compare with: the
    model as loaded would be another question. Runs from before there were such references have only that.

    Args:
        measurements: rows of the table of results, failed ones as well.
    """

    def __init__(self, measurements: Iterable[Mapping[Any, Any]]) -> None:
        self._dense: dict[str, set[str]] = {}
        for m in measurements:
            if float(m["sparsity"]) == 0:
                self._dense.setdefault(str(m["model"]), set()).add(str(m["recipe"]))

    def of(self, model: str, recipe: str) -> str:
        """Return the recipe of the dense row with which rows of `model` and `recipe` are compared; "" for none."""
        dense = self._dense.get(model, set())
        if recipe in dense:
            return recipe
        return next((name for name in sorted(dense) if as_loaded(name)), "")


def compared_with(recipes: Iterable[str]) -> str:
    """Name the dense models that differences are to, given the recipes of their rows."""
    loaded: set[str] = set()
    trained: set[str] = set()
    for recipe in recipes:
        (loaded if as_loaded(recipe) else trained).add(recipe)
    if not trained:
        return "the dense model as loaded"
    alike = f"the dense model trained alike ({', '.join(sorted(trained))})"
    return f"{alike}, or as loaded where the recipe does not train" if loaded else alike
