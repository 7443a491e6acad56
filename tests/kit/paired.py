"""Runs with per-sample values, for the tests of differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kit.boards import record, write_run
from pruningbench.contract.statistics import Floats, bootstrap
from pruningbench.leaderboard import Board, build
from pruningbench.leaderboard.results import load_results
from pruningbench.store.records import Record
from pruningbench.store.runfolder import RunFolder
from pruningbench.store.samples import write_arrays

N = 200


def correct(share: float, seed: int = 0) -> Floats:
    """1 for the easiest `share` of N samples: two conditions differ on few samples only."""
    ease = np.random.default_rng(seed).permutation(N)
    return (ease < round(share * N)).astype(np.float64)


def measured(values: Floats, **fields: object) -> tuple[Record, Floats]:
    estimate = bootstrap(values)
    numbers = {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high, "n": estimate.n}
    return record(**{**numbers, **fields}), values  # type: ignore[arg-type]


def dense(values: Floats, **fields: object) -> tuple[Record, Floats]:
    return measured(values, pruner="dense", sparsity=0.0, **fields)


def write(folder: Path, *measurements: tuple[Record, Floats]) -> list[Board]:
    """Write a run with its per-sample values and make the boards of it."""
    store(folder, *measurements)
    return build(load_results(folder), [folder])


def store(folder: Path, *measurements: tuple[Record, Floats]) -> Path:
    """Write a run with its per-sample values."""
    records = sorted((r for r, _ in measurements), key=lambda r: (r.cell, r.task))
    groups: dict[tuple[str, str], list[Record]] = {}
    for one in records:
        groups.setdefault((one.cell, one.task), []).append(one)
    numbered = [replace(r, part=i + 1, parts=len(group)) for group in groups.values() for i, r in enumerate(group)]
    write_run(folder, [replace(r, part=1, parts=1) for r in numbered])
    stored: dict[Path, dict[str, Floats]] = {}
    for one, values in measurements:
        file = RunFolder(folder).samples_file(one.cell, one.task)
        stored.setdefault(file, {})[f"{one.variant}|{one.metric}"] = values
    for file, arrays in stored.items():
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, arrays)
    return folder


KEY = ("sorting", "", "accuracy")
