"""Every built-in task passes the checks that plugins' tasks pass, on data that make it yield something."""

from __future__ import annotations

import pytest
from kit.tasks import TASKS, with_judged

from pruningbench.contract.component import BUILT_IN
from pruningbench.plugins import Registry, load_registry
from pruningbench.suite.binding import bind
from pruningbench.testing import findings
from pruningbench.testing.tasks import numbers, subject, yielded


@pytest.fixture
def registry(toy_registry: Registry) -> Registry:
    return with_judged(toy_registry)


def test_every_task_is_here() -> None:
    entries = load_registry().entries["task"].values()
    assert set(TASKS) == {entry.name for same in entries for entry in same if entry.plugin.distribution == BUILT_IN}


@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_keep_the_contract(registry: Registry, name: str) -> None:
    use = bind(registry, "task", {"use": name, **TASKS[name]})
    models = subject(use, registry)
    assert models is not None
    pairs = yielded(use, registry, *models)
    assert pairs, "the task refused the small network, so that nothing was checked"
    assert numbers(use, registry, pairs) or name.endswith("efficiency")  # whose values are timings
    assert list(map(str, findings("task", name, registry=registry, **TASKS[name]))) == []
