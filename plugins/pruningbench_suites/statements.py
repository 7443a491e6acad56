"""Sentences on the results: whether sweet spots exist, and whether they depend on the architecture.

The claims of When Does Pruning Benefit Vision Representations? (arXiv 2507.01722): some sparsities improve attribution,
object discovery or alignment with people while accuracy holds, and which ones depends on the architecture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pruningbench.contract import Comparison, SweetPoint, SweetSpot, percent

DIMENSIONS = ("interpretability", "discovery", "alignment")
"""The abilities that the paper measures."""
CLAIM = "Claim of cassano2025, sweet spots"

Place = tuple[str, str, str, str, str, float]
"""Pruner, recipe (see `_common`), task, variant, metric and sparsity."""


def sweet_spot_claims(results: Comparison) -> Iterator[str]:
    """Say whether sweet spots exist, and with several models whether they depend on the architecture.

    They exist if there is one (at most 5 % of models without any show one). That is disputed only if each of them is
    excluded: the metric is worse than dense after correction, accuracy is lost, or the network has collapsed. They
    depend on the architecture if a sweet spot of one model is excluded on another at the same sparsity of the same
    pruner and recipe (or of recipes of the same name, if no model has two of these), and do not if every one is a sweet
    spot of all other models that were measured there. Otherwise the results are undecided.
    """
    spots = [spot for spot in results.sweet_spots if spot.dimension in DIMENSIONS and not spot.obstacle]
    if not spots:
        return
    short = results.short(label for spot in spots for label in (spot.pruner, spot.recipe))
    yield f"{CLAIM} exist: {_existence(spots, short)}."
    if len({spot.model for spot in spots}) > 1:
        yield f"{CLAIM} depend on the architecture: {_dependence(spots)}."


def _excluded(point: SweetPoint) -> bool:
    return point.verdict == "worse" or point.accuracy == "lost" or point.collapsed


def _existence(spots: Sequence[SweetSpot], short: Mapping[str, str]) -> str:
    points = [point for spot in spots for point in spot.points]
    sweet = sum(point.sweet for point in points)
    if sweet:
        best = max(spots, key=_clarity)
        who = f"{best.model}, {short[best.pruner]}, {short[best.recipe]}: {_what(best)}"
        change = f"{_change(best.best)} at {percent(best.best.sparsity)}" if best.best else ""
        return f"agrees, {sweet} of {len(points)} values are one; clearest {who} {change}"
    excluded = sum(map(_excluded, points))
    if excluded == len(points):
        return f"disagrees, all {excluded} values are worse than dense or have lost accuracy"
    return f"undecided, none is shown, and {excluded} of {len(points)} values are excluded"


def _dependence(spots: Sequence[SweetSpot]) -> str:
    places: dict[Place, dict[str, tuple[SweetSpot, SweetPoint]]] = {}
    recipes = _common(spots)
    for spot in spots:
        for point in spot.points:
            place = (spot.pruner, recipes[spot.recipe], *spot.key, point.sparsity)
            places.setdefault(place, {})[spot.model] = (spot, point)
    compared = [
        (models[mine][1], other)
        for models in places.values()
        for mine in models
        if models[mine][1].sweet
        for name, other in models.items()
        if name != mine
    ]
    if not compared:
        return "undecided, there is no sweet spot to compare"
    shared = sum(other.sweet for _, (_, other) in compared)
    excluded = [pair for pair in compared if _excluded(pair[1][1])]
    counts = f"of {len(compared)} comparisons with another model {shared} are shared and {len(excluded)} excluded"
    if excluded:
        point, (spot, other) = max(excluded, key=lambda pair: _size(pair[0]))
        example = f"{_what(spot)} at {percent(point.sparsity)} {_change(point)}, but {_change(other)} on {spot.model}"
        lost = " with accuracy lost" if other.accuracy == "lost" else ""
        return f"agrees, {counts}; {example}{lost}"
    return f"{'disagrees' if shared == len(compared) else 'undecided'}, {counts}"


def _common(spots: Sequence[SweetSpot]) -> dict[str, str]:
    """Return what to call each recipe where models are compared.

    A suite may train each family of models by its own settings of one recipe (``for:``). Such recipes are compared
    under their common name, without settings, as long as no model has two recipes of that name.
    """
    used = {(spot.model, _name(spot.recipe), spot.recipe) for spot in spots}
    several = {name for (_, name), times in Counter((model, name) for model, name, _ in used).items() if times > 1}
    return {recipe: recipe if name in several else name for _, name, recipe in used}


def _name(label: str) -> str:
    return label.partition("(")[0]


def _what(spot: SweetSpot) -> str:
    return " ".join(filter(None, (spot.variant or spot.task, spot.metric)))


def _clarity(spot: SweetSpot) -> float:
    return _size(spot.best) if spot.best else -1.0


def _size(point: SweetPoint) -> float:
    """Return a difference in half widths of its interval."""
    if point.difference is None:
        return 0.0
    return abs(point.difference.value) / max((point.difference.high - point.difference.low) / 2, 1e-12)


def _change(point: SweetPoint) -> str:
    return point.difference.signed() if point.difference else "unknown"
