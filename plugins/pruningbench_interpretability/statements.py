"""Sentences on the results: whether light pruning sharpens saliency maps.

The claim of Do Sparse Subnetworks Exhibit Cognitively Aligned Attention? (arXiv 2509.21387, table 1): after pruning 10
to 30 % of the weights, maps are sharper than those of the dense model, which the Gini index of their absolute values
shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pruningbench.contract import Comparison, SweetPoint, SweetSpot, percent

LIGHT = 0.3
"""Largest sparsity that counts as light pruning."""
SHARPNESS = "gini"
"""The metric that measures how sharp a map is."""
CLAIM = "Claim of suwal2025, light pruning sharpens maps"


def sharper_maps(results: Comparison) -> Iterator[str]:
    """Say, for each model, pruner and recipe, whether maps are sharper after light pruning.

    All sparsities of at most `LIGHT` and all attribution methods count, except networks that have lost accuracy: maps
    of a network that sees little are often sharp, which is not the claim. The results agree if a map is sharper than
    dense at one of them and less sharp at none, and disagree if it is the other way round; both after correction for
    all tests of the model's table. Otherwise they are undecided. There is no sentence without light pruning.
    """
    conditions: dict[tuple[str, str, str], list[tuple[SweetSpot, SweetPoint]]] = {}
    for spot in results.sweet_spots:
        if spot.metric == SHARPNESS:
            light = [(spot, p) for p in spot.points if p.sparsity <= LIGHT and p.difference is not None]
            conditions.setdefault((spot.model, spot.pruner, spot.recipe), []).extend(light)
    short = results.short(label for condition in conditions for label in condition[1:])
    for (model, pruner, recipe), points in conditions.items():
        if points:
            yield f"{CLAIM}: {model}, {short[pruner]}, {short[recipe]}: {_verdict(points)}."


def _verdict(points: Iterable[tuple[SweetSpot, SweetPoint]]) -> str:
    every = list(points)
    listed = [(spot, point) for spot, point in every if not (point.collapsed or point.accuracy == "lost")]
    lost = f"; {len(every) - len(listed)} left out, because accuracy is lost" if len(listed) < len(every) else ""
    if not listed:
        return f"undecided, accuracy is lost for all {len(every)} values"
    sharper = sum(point.verdict == "better" for _, point in listed)
    duller = sum(point.verdict == "worse" for _, point in listed)
    verdict = "agrees" if sharper and not duller else "disagrees" if duller and not sharper else "undecided"
    spot, largest = max(listed, key=lambda pair: abs(pair[1].difference.value) if pair[1].difference else 0.0)
    change = largest.difference.signed() if largest.difference else "unknown"
    where = f"{percent(largest.sparsity)}, {spot.variant or spot.task}"
    return (
        f"{verdict}, {sharper} of {len(listed)} values sharper, {duller} less sharp; largest change {change} at {where}"
        f"{lost}"
    )
