"""Every built-in task on data that make it yield something."""

from __future__ import annotations

from typing import Any

from kit.alignment import Judged
from pruningbench.plugins import Registry

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
    "shrunk-efficiency": {"data": DIGITS},
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


def with_judged(registry: Registry) -> Registry:
    """Return a copy of a registry that also knows the data set with people's answers."""
    own = registry.copy()
    own.add("dataset", "judged", Judged, own.plugins[0])
    return own
