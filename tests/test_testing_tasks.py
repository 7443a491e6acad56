"""Every built-in task passes the checks that plugins' tasks pass, on data that make it yield something."""

from __future__ import annotations

from typing import Any

import pytest
from kit.alignment import Judged

from pruningbench.contract.component import BUILT_IN
from pruningbench.plugins import Registry, load_registry
from pruningbench.suite.binding import bind
from pruningbench.testing import findings
from pruningbench.testing.tasks import numbers, subject, yielded

DIGITS = {"use": "digits", "split": "test", "classes": [0, 1, 2]}
LEARNT = {"use": "digits", "classes": [0, 1, 2]}
OTHERS = {"use": "digits", "classes": [3, 4, 5]}
OTHERS_TEST = {"use": "digits", "split": "test", "classes": [3, 4, 5]}
SCENES = {"use": "digit-scenes", "count": 12}
TASKS: dict[str, dict[str, Any]] = {
    "calibration": {"data": DIGITS},
    "classification": {"data": DIGITS},
    "clickme": {"data": {"use": "judged", "form": "maps"}},
    "concepts": {"data": DIGITS, "classes": 2, "samples": "all", "concepts": 3, "patch": 140, "designs": 4},
    "corruption-robustness": {"data": DIGITS, "kinds": ["contrast"], "severities": [3]},
    "dense-similarity": {"data": DIGITS},
    "discovery": {"data": SCENES},
    "efficiency": {"data": DIGITS},
    "few-shot": {"data": DIGITS, "ways": 2, "queries": 5, "episodes": 10},
    "fine-tune-transfer": {"train": OTHERS, "test": OTHERS_TEST, "epochs": 1},
    "interpretability": {"data": SCENES, "methods": ["saliency", "grad-cam"]},
    "model-vs-human": {"data": ["judged"]},
    "nights": {"data": {"use": "judged", "form": "alternatives"}},
    "odd-one-out": {"data": {"use": "judged", "form": "triplets"}},
    "ridge-zero-shot": {
        "source_train": LEARNT, "source_test": DIGITS, "target_train": [OTHERS], "target_test": [OTHERS_TEST],
    },
    "rsa": {"data": {"use": "judged", "form": "similarity"}},
    "soft-labels": {"data": {"use": "judged", "form": "counts"}},
    "transfer": {"train": LEARNT, "test": DIGITS, "k": [3]},
}  # fmt: skip


@pytest.fixture
def registry(toy_registry: Registry) -> Registry:
    own = toy_registry.copy()
    own.add("dataset", "judged", Judged, own.plugins[0])
    return own


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
    assert numbers(use, registry, pairs) or name == "efficiency"  # whose values are timings
    assert list(map(str, findings("task", name, registry=registry, **TASKS[name]))) == []
