"""The abilities that tasks measure, also for results that do not say them."""

from __future__ import annotations

from collections.abc import Iterable

from pruningbench.contract.task import Task, dimension_of
from pruningbench.errors import PruningBenchError
from pruningbench.plugins import Registry, load_registry


def dimensions_of(tasks: Iterable[tuple[str, object]], registry: Registry | None = None) -> dict[str, str]:
    """Return the dimension of each task, by its label.

    Results of earlier versions do not state it. It is then that of the registered task with the label's name, and the
    label itself if there is no such task.

    Args:
        tasks: pairs of a task's label and its stated dimension, "" or no text if unknown. Of several statements on a
            label, the last one counts.
        registry: where tasks are looked up; the installed plugins by default.
    """
    stated: dict[str, str] = {}
    for label, dimension in tasks:
        known = dimension if isinstance(dimension, str) else ""  # concatenated tables may hold NaN
        stated[label] = known or stated.get(label, "")
    return {label: dimension or _registered(label, registry) for label, dimension in stated.items()}


def _registered(label: str, registry: Registry | None) -> str:
    name = label.partition("(")[0]
    try:
        task = (registry or load_registry()).entry("task", name).load()
    except PruningBenchError:
        return label
    return dimension_of(task, name) if isinstance(task, type) and issubclass(task, Task) else label
