"""Checks of metrics, on planted outputs: values for all samples, in range, and in the right direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Features, Metric, Outputs, Use
from pruningbench.errors import PruningBenchError
from pruningbench.harness.lent import LentOutputs
from pruningbench.plugins import Registry
from pruningbench.testing.planted import PLANTED, chosen

CLOSE = 1e-5
"""Largest difference between values that should be equal, relative to the larger one or to 1."""


def metric_of(use: Use) -> Metric:
    """Return the metric."""
    if not isinstance(use.component, Metric):
        raise PruningBenchError(f"{use.name!r} is a {use.component.kind}")
    return use.component


def cases(metric: Metric) -> Iterator[tuple[str, Outputs]]:
    """Yield planted outputs that the metric applies to; none for a type of outputs that is not planted."""
    for make in PLANTED.get(getattr(metric, "consumes", Outputs), ()):
        for name, right in (("right", True), ("wrong", False)):
            outputs = make(right)
            if metric.applies(outputs):
                yield f"a planted network that is {name}", outputs


def values_of(metric: Metric, outputs: Outputs) -> Tensor:
    """Return a metric's values as the harness asks for them, float64."""
    with isolated_randomness("metric"):
        values = metric.values(outputs)
    if not isinstance(values, Tensor) or values.ndim not in (1, 2):
        what = f"the shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise PruningBenchError(f"its values are {what}, not a tensor (N,) or (N, K)")
    return values.detach().cpu().double()


def one_number(metric: Metric, values: Tensor) -> float:
    """Return the number that the harness reports: the aggregate of the values that are defined; NaN if none is."""
    array = values.numpy()
    defined = array[~np.isnan(array).any(axis=tuple(range(1, array.ndim)))]
    if not len(defined):
        return math.nan
    if type(metric).aggregate is Metric.aggregate and defined.ndim == 2:
        defined = defined.mean(axis=1)
    return float(metric.aggregate(defined))


def close(first: float, second: float) -> bool:
    """Whether two values are equal up to rounding, or both undefined."""
    if math.isnan(first) or math.isnan(second):
        return math.isnan(first) and math.isnan(second)
    return abs(first - second) <= CLOSE * max(1.0, abs(first), abs(second))


def separate(metric: Metric, values: Tensor) -> bool:
    """Whether each sample has a value of its own.

    Comparisons of representations have none: they give the whole value plus the influence of each image.
    """
    return values.ndim == 1 and type(metric).aggregate is Metric.aggregate and not issubclass(metric.consumes, Features)


def declarations(use: Use, registry: Registry) -> Iterator[str]:
    """Tables and figures read them: state ``consumes``, ``unit``, ``higher_is_better`` and ``range = (low, high)``."""
    del registry
    metric = metric_of(use)
    consumes: object = getattr(metric, "consumes", None)
    if not (isinstance(consumes, type) and issubclass(consumes, Outputs)):
        yield f"it consumes {consumes!r}, which is not a type of outputs"
    if not isinstance(metric.unit, str):
        yield f"its unit is {metric.unit!r}, not text"
    if metric.higher_is_better not in (True, False, None):
        yield f"higher_is_better is {metric.higher_is_better!r}, not True, False or None"
    limits: object = metric.range
    if not (isinstance(limits, tuple) and len(limits) == 2 and limits[0] < limits[1]):
        yield f"its range {limits!r} is not a pair (low, high)"


def values(use: Use, registry: Registry) -> Iterator[str]:
    """Differences are paired by sample: return one value, or one row, for each sample; NaN only where undefined."""
    del registry
    metric = metric_of(use)
    for case, outputs in cases(metric):
        found = values_of(metric, outputs)
        if outputs.count is not None and len(found) != outputs.count:
            yield f"on {case}, it gives {len(found)} values for {outputs.count} samples"
        elif bool(found.isnan().all()):
            yield f"on {case}, all its values are NaN"


def in_range(use: Use, registry: Registry) -> Iterator[str]:
    """Axes and re-runs rely on ``range``: declare the smallest and largest possible value, and stay between them."""
    del registry
    metric = metric_of(use)
    low, high = metric.range
    for case, outputs in cases(metric):
        found = values_of(metric, outputs)
        whole = torch.tensor([one_number(metric, found)], dtype=torch.float64)
        given = torch.cat([found, whole]) if separate(metric, found) else whole
        outside = given[(given < low - CLOSE) | (given > high + CLOSE)]
        if len(outside):
            yield f"on {case}, it gives {float(outside[0]):g}, outside its range {low:g} to {high:g}"


def repeatable(use: Use, registry: Registry) -> Iterator[str]:
    """Rows are run again: draw from a seed in the outputs only, and set ``deterministic = False`` for timings."""
    del registry
    metric = metric_of(use)
    for case, outputs in list(cases(metric))[-1:]:
        again = chosen(outputs, range(outputs.count)) if outputs.count is not None else outputs
        first, second = values_of(metric, outputs), values_of(metric, again)
        if metric.deterministic and not torch.equal(first.nan_to_num(), second.nan_to_num()):
            yield f"on {case}, two calls give different values"


def leaves_no_trace(use: Use, registry: Registry) -> Iterator[str]:
    """All metrics of a task get the same outputs: change nothing in them, and work on copies."""
    del registry
    metric = metric_of(use)
    for case, outputs in list(cases(metric))[-1:]:
        lent = LentOutputs(outputs)
        values_of(metric, outputs)
        yield from (f"on {case}, {found}" for found in lent.collect())


def of_samples(use: Use, registry: Registry) -> Iterator[str]:
    """Intervals come from resampling: give each sample a value of its own, or rows (N, K) and an ``aggregate``."""
    del registry
    metric = metric_of(use)
    for case, outputs in list(cases(metric))[-1:]:
        if outputs.count is None:
            continue
        whole = values_of(metric, chosen(outputs, range(outputs.count)))  # a copy
        if len(whole) != outputs.count:
            continue
        backwards = list(reversed(range(outputs.count)))
        turned = values_of(metric, chosen(outputs, backwards))
        if not close(one_number(metric, whole), one_number(metric, turned)):
            yield f"on {case}, the order of the samples changes its value"
            return
        if separate(metric, whole):
            half = values_of(metric, chosen(outputs, backwards[: outputs.count // 2]))
            pairs = zip(half.tolist(), whole.flip(0).tolist(), strict=False)
            if not all(close(*pair) for pair in pairs):
                yield f"on {case}, the value of a sample changes with the other samples"


def resamples(use: Use, registry: Registry) -> Iterator[str]:
    """``aggregate_each`` is ``aggregate`` of many resamples: give the same bits for each, and change no values."""
    del registry
    metric = metric_of(use)
    if type(metric).aggregate_each is Metric.aggregate_each:
        return
    picks = np.random.default_rng(0)
    for case, outputs in cases(metric):
        found = values_of(metric, outputs)
        defined = found[~found.reshape(len(found), -1).isnan().any(dim=1)].numpy()
        if not len(defined):
            continue
        drawn = picks.integers(0, len(defined), size=(5, len(defined)))
        lent = defined.copy()
        each = np.asarray(metric.aggregate_each(lent, drawn), dtype=np.float64)
        if not np.array_equal(lent, defined):
            yield f"on {case}, it changes the values that it is given"
        singly = np.array([metric.aggregate(defined[pick]) for pick in drawn], dtype=np.float64)
        if not np.array_equal(each, singly, equal_nan=True):
            yield f"on {case}, it gives other numbers than aggregate"


def direction(use: Use, registry: Registry) -> Iterator[str]:
    """Ranks and arrows follow ``higher_is_better``: set it to what is better, or to None if neither end is."""
    del registry
    metric = metric_of(use)
    found = {case.rpartition(" ")[2]: one_number(metric, values_of(metric, outputs)) for case, outputs in cases(metric)}
    if metric.higher_is_better is None or len(found) < 2 or any(map(math.isnan, found.values())):
        return
    ahead = found["right"] - found["wrong"] if metric.higher_is_better else found["wrong"] - found["right"]
    if ahead < 0 and not close(found["right"], found["wrong"]):
        better = "higher" if metric.higher_is_better else "lower"
        got = f"a planted network that is right gets {found['right']:g}, and one that is wrong {found['wrong']:g}"
        yield f"it says that {better} is better, but {got}"


METRIC_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "declarations": declarations,
    "values": values,
    "range": in_range,
    "repeatable": repeatable,
    "leaves no trace": leaves_no_trace,
    "samples": of_samples,
    "resamples": resamples,
    "direction": direction,
}
