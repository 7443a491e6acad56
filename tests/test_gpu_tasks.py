"""Tasks and their metrics on an NVIDIA GPU against the CPU; `make test` leaves them out."""

from __future__ import annotations

import pytest
import torch
from kit.tasks import TASKS, with_judged

from pruningbench.base.randomness import isolated_randomness
from pruningbench.contract import VisionModel
from pruningbench.contract.precision import computed_in
from pruningbench.plugins import load_registry
from pruningbench.suite.binding import bind
from pruningbench.testing.small import lent
from pruningbench.testing.tasks import numbers, subject, task_of

pytestmark = pytest.mark.gpu
REGISTRY = with_judged(load_registry())
CLOSE = 2e-3
"""Largest difference of a metric, relative to its value or to 1; passes are in float32."""


def measured(name: str, device: torch.device | str, models: tuple[VisionModel, VisionModel]) -> dict[str, float]:
    """Return a task's metrics on the small network of the conformance tests."""
    pruned, dense = (model.clone() for model in models)
    for model in (pruned, dense):
        model.network.to(device)
    use = bind(REGISTRY, "task", {"use": name, **TASKS[name]})
    context = lent(REGISTRY, dense=dense)
    context.device = torch.device(device)
    with isolated_randomness("task"), computed_in("float32"):
        return numbers(use, REGISTRY, list(task_of(use).run(pruned, context)))


@pytest.mark.parametrize("name", TASKS)
def test_metrics_are_those_of_the_cpu_and_repeat_to_the_bit(name: str, gpu: torch.device) -> None:
    models = subject(bind(REGISTRY, "task", {"use": name, **TASKS[name]}), REGISTRY)
    assert models is not None
    here, there, again = (measured(name, device, models) for device in ("cpu", gpu, gpu))
    assert here or name.endswith("efficiency")  # whose values are timings
    assert here.keys() == there.keys()
    assert there == again
    for metric, value in here.items():
        assert abs(there[metric] - value) <= CLOSE * max(1.0, abs(value)), metric
