"""Checks of tasks: what they declare, and what they yield on a small network and few samples of their own data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import torch

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import Metric, Missing, Outputs, Samples, Task, Use, VisionModel
from pruningbench.errors import PruningBenchError, UnknownComponentError
from pruningbench.harness.lending import Loan
from pruningbench.plugins import Registry
from pruningbench.suite.binding import bind
from pruningbench.testing.metrics import close, one_number, values_of
from pruningbench.testing.small import SmallModel, lent

_NAME = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*)?")
SMALL_BATCH = 3
"""Batch size that must give the values of a larger one."""
ROUNDING = 1e-3
"""Largest difference that the batch size may make, relative to the value or to 1."""


def task_of(use: Use) -> Task:
    """Return the task."""
    if not isinstance(use.component, Task):
        raise PruningBenchError(f"{use.name!r} is a {use.component.kind}")
    return use.component


def subject(use: Use, registry: Registry) -> tuple[VisionModel, VisionModel] | None:
    """Return a pruned and a dense model for a task's data, or None if the data cannot be opened here."""
    main = use.references.get(task_of(use).main_data)  # "data", or "data.0" of a task on several data sets
    classes: tuple[str, ...] = ("left", "right")
    channels = 3
    if main is not None:
        try:
            samples: Samples = lent(registry).open_dataset(main.spec())
            classes, channels = samples.classes or classes, samples[0].image.shape[0]
        except PruningBenchError:  # such as files that are not on this machine
            return None
    dense = SmallModel(classes, channels)
    pruned = dense.clone()
    with torch.no_grad():
        for parameter in pruned.network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(parameter.abs() > parameter.abs().median())
    return pruned, dense


def yielded(
    use: Use, registry: Registry, model: VisionModel, dense: VisionModel, batch_size: int = 128
) -> list[tuple[str, Outputs]]:
    """Run a task as the harness does; nothing if it refuses the small network or so few samples."""
    context = lent(registry, dense=dense, batch_size=batch_size)
    try:
        with isolated_randomness("task"):
            return list(task_of(use).run(model, context))
    except PruningBenchError:  # it says so itself; what else it raises is a finding
        return []


def numbers(use: Use, registry: Registry, pairs: list[tuple[str, Outputs]]) -> dict[str, float]:
    """Return the values of a task's own metrics that are the same each time, by variant and metric."""
    found = {}
    for variant, outputs in pairs:
        for name in task_of(use).metrics:
            metric = bind(registry, "metric", name, use.plugin).component
            if isinstance(metric, Metric) and metric.deterministic and metric.applies(outputs):
                found[f"{variant}|{name}"] = one_number(metric, values_of(metric, outputs))
    return found


def dimension(use: Use, registry: Registry) -> Iterator[str]:
    """Ranks and sweet spots are stated per dimension: name one in kebab-case, or none for the task's own name."""
    del registry
    if isinstance(use.component, Task):
        stated: object = type(use.component).dimension
        if not isinstance(stated, str) or not _NAME.fullmatch(stated):
            yield f"its dimension {stated!r} is not a name in kebab-case"


def metrics(use: Use, registry: Registry) -> Iterator[str]:
    """A suite that asks for no metrics gets the task's: name registered ones, the main one first."""
    for name in task_of(use).metrics:
        try:
            bind(registry, "metric", name, use.plugin)
        except UnknownComponentError as error:
            yield f"its metric {name!r} is not registered ({error})"
    if not task_of(use).metrics:
        yield "it names no metric"


def outputs(use: Use, registry: Registry) -> Iterator[str]:
    """Metrics consume what a task yields: yield variant names with `Outputs` that a metric of the task applies to."""
    models = subject(use, registry)
    pairs = [] if models is None else yielded(use, registry, *models)
    seen: set[str] = set()
    for pair in pairs:
        variant, found = pair if isinstance(pair, tuple) and len(pair) == 2 else ("", pair)
        if not isinstance(found, Outputs) or not isinstance(variant, str):
            yield f"it yields a {type(found).__name__} as variant {variant!r}, not Outputs under a name"
            return
        if variant in seen:
            yield f"it yields variant {variant!r} twice"
        seen.add(variant)
    own = [bind(registry, "metric", name, use.plugin).component for name in task_of(use).metrics]
    measurable = [found for _, found in pairs if not isinstance(found, Missing)]
    if measurable and not any(isinstance(m, Metric) and m.applies(found) for m in own for found in measurable):
        yield f"none of its metrics ({', '.join(task_of(use).metrics)}) applies to what it yields"


def leaves_no_trace(use: Use, registry: Registry) -> Iterator[str]:
    """Tasks share the network and the dense one: leave weights, modes, gradients and hooks of both as they were."""
    models = subject(use, registry)
    if models is None:
        return
    pruned, dense = map(Loan, models)
    yielded(use, registry, pruned.model, dense.model)
    for name, loan in (("the network", pruned), ("the dense network", dense)):
        yield from (f"of {name}, {change}" for change in loan.collect())


def repeatable(use: Use, registry: Registry) -> Iterator[str]:
    """Equal seeds must give equal values: draw from ``context.generator(...)``, and from nothing else."""
    models = subject(use, registry)
    if models is None:
        return
    pruned, dense = models
    runs = (yielded(use, registry, pruned.clone(), dense.clone()) for _ in range(2))
    first, second = (numbers(use, registry, pairs) for pairs in runs)
    for name, value in first.items():
        if name in second and not close(value, second[name]):
            yield f"two runs with one seed give {value:g} and {second[name]:g} for {name.strip('|')}"
            return


def batch_invariance(use: Use, registry: Registry) -> Iterator[str]:
    """Batch sizes are halved when memory runs out: give each image the same outputs, whatever else is in its batch."""
    models = subject(use, registry)
    if models is None:
        return
    pruned, dense = models
    whole = numbers(use, registry, yielded(use, registry, pruned.clone(), dense.clone()))
    parts = numbers(use, registry, yielded(use, registry, pruned.clone(), dense.clone(), SMALL_BATCH))
    for name, value in whole.items():
        if name in parts and abs(value - parts[name]) > ROUNDING * max(1.0, abs(value)):
            yield f"a batch size of {SMALL_BATCH} gives {parts[name]:g} for {name.strip('|')}, and not {value:g}"
            return


TASK_CHECKS: dict[str, Callable[[Use, Registry], Iterator[str]]] = {
    "dimension": dimension,
    "metrics": metrics,
    "outputs": outputs,
    "leaves no trace": leaves_no_trace,
    "repeatable": repeatable,
    "batch invariance": batch_invariance,
}
