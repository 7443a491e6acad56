"""Opens the data sets of a plan and reads some of their samples, before a run relies on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pruningbench.contract import Context, Dataset
from pruningbench.errors import PruningBenchError
from pruningbench.harness.shelves import DataShelf
from pruningbench.plugins import Registry
from pruningbench.store.cache import Cache
from pruningbench.suite.plan import Plan


@dataclass(frozen=True)
class DataCheck:
    """What was found in a data set of a plan.

    Attributes:
        label: the data set, with the fields that the suite sets.
        samples: number of samples; None if it could not be opened.
        classes: number of classes; 0 if it has none.
        holds: what its samples have beyond an image: ``labels``, ``boxes``, ``masks``.
        problem: why it cannot be used, in one line; "" if it can.
    """

    label: str
    samples: int | None = None
    classes: int = 0
    holds: tuple[str, ...] = ()
    problem: str = ""


def check_data(plan: Plan, registry: Registry) -> list[DataCheck]:
    """Open every data set of a plan, and decode its first, middle and last sample.

    Args:
        plan: the plan.
        registry: where data sets that others are composed of are looked up.
    """
    shelf = DataShelf(registry, lambda: Context(torch.device("cpu"), 0, Cache(), shelf), plan.suite.limit or 0)
    found = []
    for label, use in plan.datasets().items():
        component = use.component
        assert isinstance(component, Dataset)  # noqa: S101 - the plan chose by kind
        lack = component.missing()
        if lack:
            found.append(DataCheck(label, problem=lack))
            continue
        try:
            samples = shelf.open(use)
            if not len(samples):
                raise PruningBenchError("it has no samples")
            some = [samples[i] for i in sorted({0, len(samples) // 2, len(samples) - 1})]
        except Exception as error:  # noqa: BLE001 - third-party component; whatever it raises is the finding
            text = str(error) if isinstance(error, PruningBenchError) else f"{type(error).__name__}: {error}"
            found.append(DataCheck(label, problem=" ".join(text.split())))
            continue
        holds = {
            "labels": samples.labels is not None,
            "boxes": any(sample.boxes is not None for sample in some),
            "masks": any(sample.mask is not None for sample in some),
        }
        held = tuple(name for name, there in holds.items() if there)
        found.append(DataCheck(label, len(samples), len(samples.classes), held))
    return found
