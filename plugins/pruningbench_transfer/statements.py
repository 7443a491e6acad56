"""Sentences on the results: whether pruning on a source task keeps unseen tasks, and training lifts them.

The two claims of A Second-Order Perspective on Pruning at Initialization and Knowledge Transfer (arXiv 2509.24066),
for every task with variants ``source`` and ``target-...`` and a metric that is better when higher:

P1: pruning on the source keeps the accuracy on the source, and on unseen tasks, up to high sparsity.
P2: training on the source after pruning lifts the unseen tasks too.

P1 compares with the dense model of the same recipe, which it names. P2 compares with the same pruning without
training (the first recipe named ``none``). Each sentence says whether the results agree with the claim:

P1 agrees if source and unseen tasks are shown to be kept at all sparsities up to one of at least 80 %, and disagrees if
one of them is shown to be lost at 80 % or below. P2 agrees if unseen tasks are lifted at some sparsity and lowered at
none, and disagrees if it is the other way round. Otherwise they are undecided.

All differences are paired over samples, within each seed; those of several unseen tasks are averaged, with
intervals for independent samples. What is called lost, lifted or lowered for a verdict is corrected for the number of
sparsities (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist

from pruningbench.contract import FRACTION, Comparison, Interval, Measurement, percent, widened

SOURCE, TARGET = "source", "target-"
EPSILON = 0.01
"""Largest loss at which a value counts as kept: one point of accuracy."""
HIGH = 0.8
"""Smallest sparsity that counts as high."""

Condition = tuple[str, str, str, str]
"""Model, pruner, task and metric."""
Place = tuple[str, float, int, str]
"""Recipe, sparsity, seed and variant."""


def transfer_claims(results: Comparison, epsilon: float = EPSILON) -> tuple[str, ...]:
    """Return one P1 sentence per model, pruner and recipe, and one P2 sentence for each recipe that trains.

    Args:
        results: the results of one board.
        epsilon: largest loss at which a value counts as kept, in units of the metric.
    """
    conditions = _by_condition(results.measurements)
    dense = {
        (model, task, metric, recipe, seed, variant): measurement
        for (model, _, task, metric), places in conditions.items()
        for (recipe, sparsity, seed, variant), measurement in places.items()
        if sparsity == 0
    }
    short = results.short(
        label for key, places in conditions.items() for label in (key[1], *(place[0] for place in places))
    )
    sentences: list[str] = []
    for condition, places in conditions.items():
        model, pruner, task, metric = condition
        recipes = list(dict.fromkeys(place[0] for place in places if place[1] > 0))
        untrained = next((recipe for recipe in recipes if results.as_loaded(recipe)), "")
        for recipe in recipes:
            own = {place: m for place, m in places.items() if place[0] == recipe and place[1] > 0}
            reference = results.reference(model, recipe)
            of_dense = {p: dense.get((model, task, metric, reference, p[2], p[3])) for p in own}
            kept = _kept(results, own, of_dense, epsilon)
            who = f"{model}, {short[pruner]}, {short[recipe]} ({task} {metric})"
            if kept:
                against = "" if results.as_loaded(reference) else ", beside the dense model trained alike"
                sentences.append(f"P1, {who}{against}: {kept}.")
            if not results.as_loaded(recipe):
                lifted = _lifted(results, own, {p: places.get((untrained, *p[1:])) for p in own})
                if lifted:
                    sentences.append(f"P2, {who}: {lifted}.")
    return tuple(sentences)


def _by_condition(measurements: Iterable[Measurement]) -> dict[Condition, dict[Place, Measurement]]:
    """Sort the measurements of tasks that have a source and at least one target."""
    found: dict[Condition, dict[Place, Measurement]] = {}
    variants: dict[tuple[str, str], set[str]] = {}
    for m in measurements:
        is_source, is_target = m["variant"] == SOURCE, str(m["variant"]).startswith(TARGET)
        if not (is_source or is_target) or m["higher_is_better"] is not True:
            continue
        variants.setdefault((m["task"], m["metric"]), set()).add(SOURCE if is_source else TARGET)
        place = (m["recipe"], float(m["sparsity"]), int(m["seed"]), m["variant"])
        found.setdefault((m["model"], m["pruner"], m["task"], m["metric"]), {})[place] = m
    return {key: places for key, places in found.items() if variants[key[2:]] == {SOURCE, TARGET}}


def pooled(
    results: Comparison, own: Mapping[Place, Measurement], reference: Mapping[Place, Measurement | None], prefix: str
) -> dict[float, Interval]:
    """Return the mean difference over the variants that start with `prefix`, averaged over seeds, by sparsity."""
    by_seed: dict[float, dict[int, list[Mapping[str, float]]]] = {}
    for place, measurement in own.items():
        other = reference.get(place)
        if place[3].startswith(prefix) and other is not None:
            difference = results.difference(measurement, other)
            if difference is not None and not math.isnan(difference["value"]):
                by_seed.setdefault(place[1], {}).setdefault(place[2], []).append(difference)
    return {
        sparsity: results.average([_mean(variants) for variants in seeds.values()])
        for sparsity, seeds in sorted(by_seed.items())
    }


def _mean(independent: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average differences measured on different samples."""
    count = len(independent)
    value = math.fsum(d["value"] for d in independent) / count
    below = math.sqrt(math.fsum((d["value"] - d["ci_low"]) ** 2 for d in independent)) / count
    above = math.sqrt(math.fsum((d["ci_high"] - d["value"]) ** 2 for d in independent)) / count
    n = sum(int(d["n"]) for d in independent)
    return {"value": value, "ci_low": value - below, "ci_high": value + above, "n": n}


def _kept(
    results: Comparison, own: Mapping[Place, Measurement], dense: Mapping[Place, Measurement | None], epsilon: float
) -> str:
    fraction = all(m["unit"] == FRACTION for m in own.values())
    parts, agree, disagree = [], True, False
    for name, prefix in (("the source", SOURCE), ("unseen tasks", TARGET)):
        differences = pooled(results, own, dense, prefix)
        if not differences:
            continue
        kept = {s: d for s, d in differences.items() if _is_kept(d, epsilon, fraction=fraction)}
        parts.append(f"{name} {_verdict(differences, kept, epsilon)}")
        agree &= any(s >= HIGH and all(lower in kept for lower in differences if lower <= s) for s in kept)
        disagree |= any(_limits(d, len(differences))[1] < -epsilon for s, d in differences.items() if s <= HIGH)
    verdict = "disagrees" if disagree else "agrees" if agree else "undecided"
    return f"{verdict}: {'; '.join(parts)}" if parts else ""


def _is_kept(difference: Interval, epsilon: float, *, fraction: bool) -> bool:
    low = difference.low
    if fraction:
        low = widened(difference.value, low, difference.n)
    return math.isfinite(low) and low >= -epsilon


def _limits(difference: Interval, tests: int) -> tuple[float, float]:
    """Return the limits of an interval that hold for a number of intervals at once, from normal quantiles."""
    wider = NormalDist().inv_cdf(1 - 0.025 / tests) / NormalDist().inv_cdf(0.975)
    value = difference.value
    return value - wider * (value - difference.low), value + wider * (difference.high - value)


def _verdict(differences: Mapping[float, Interval], kept: Mapping[float, Interval], epsilon: float) -> str:
    """Say up to which sparsity a value is kept, and what the next sparsity shows.

    A value is kept if its whole 95 % interval shows a loss of at most `epsilon`, and lost if the whole interval shows a
    larger loss; otherwise it is undecided.
    """
    within = _number_of_points(epsilon)
    highest, said = None, []
    for sparsity, difference in differences.items():
        if sparsity in kept:
            highest = sparsity
            continue
        lost = math.isfinite(difference.high) and difference.high < -epsilon
        said.append(f"{'lost' if lost else 'undecided'} at {percent(sparsity)} ({_points(difference)})")
        break
    if highest is not None:
        said.insert(0, f"kept within {within} up to {percent(highest)} ({_points(differences[highest])})")
    return ", ".join(said)


def _lifted(
    results: Comparison, own: Mapping[Place, Measurement], untrained: Mapping[Place, Measurement | None]
) -> str:
    differences = pooled(results, own, untrained, TARGET)
    if not differences:
        return ""
    limits = {sparsity: _limits(difference, len(differences)) for sparsity, difference in differences.items()}
    lifts = [percent(sparsity) for sparsity, (low, _) in limits.items() if low > 0]
    lowers = [percent(sparsity) for sparsity, (_, high) in limits.items() if high < 0]
    verdict = "agrees" if lifts and not lowers else "disagrees" if lowers and not lifts else "undecided"
    most = max(differences, key=lambda sparsity: differences[sparsity].value)
    sentence = f"{verdict}: unseen tasks lifted at {len(lifts)} of {len(differences)} sparsities"
    sentence += f" ({', '.join(lifts)})" if lifts else ""
    sentence += f", lowered at {', '.join(lowers)}" if lowers else ""
    return f"{sentence}; most at {percent(most)}: {_points(differences[most])}"


def _number_of_points(fraction: float) -> str:
    return f"{100 * fraction:g} point" + ("" if math.isclose(fraction, 0.01) else "s")


def _points(difference: Interval) -> str:
    """Write a difference of fractions in points with its 95 % interval."""
    limits = f" [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]" if math.isfinite(difference.low) else ""
    return f"{100 * difference.value:+.1f}{limits} points"
