"""Two runs with per-sample values, for the tests of comparisons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kit.paired import store
from pruningbench.contract.statistics import Floats
from pruningbench.store.records import Record

MADE = {"weights": "w1", "libraries": "timm 1.0", "pruner": "mine 1.0 v1 aa", "metric accuracy": "m", "network": "n1"}


def worse_by(share: float, of: Floats) -> Floats:
    """The same values, with the last `share` of the samples that are right now wrong."""
    values = of.copy()
    right = np.flatnonzero(values == 1)
    values[right[len(right) - round(share * len(values)) :]] = 0
    return values


def two(tmp_path: Path, *pairs: tuple[tuple[Record, Floats], tuple[Record, Floats]]) -> tuple[Path, Path]:
    """Write the run before and the run after; both folders have the same name."""
    store(tmp_path / "before" / "run", *(pair[0] for pair in pairs))
    store(tmp_path / "after" / "run", *(pair[1] for pair in pairs))
    return tmp_path / "before" / "run", tmp_path / "after" / "run"
