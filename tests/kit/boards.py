"""Measurements by hand, for the tests of the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from pruningbench.base.identity import content_hash
from pruningbench.leaderboard import Board, build
from pruningbench.leaderboard.results import load_results
from pruningbench.store.journal import Journal
from pruningbench.store.records import Record


def record(pruner: str = "a", metric: str = "accuracy", value: float = 0.5, **other: object) -> Record:
    """One measurement of the model `net` at 50 %, on the task `sorting`, unless said otherwise."""
    fields: dict[str, object] = {
        "suite": "small", "model": "net", "recipe": "none", "sparsity": 0.5, "seed": 0, "task": "sorting",
        "n": 100, "ci_low": value - 0.1, "ci_high": value + 0.1, "unit": "fraction", "higher_is_better": True,
        "data_fingerprint": "d1",
    }  # fmt: skip
    fields |= {"pruner": pruner, "metric": metric, "value": value} | other
    fields.setdefault("sparsity_achieved", fields["sparsity"])
    cell = [fields[name] for name in ("model", "pruner", "recipe", "sparsity", "seed")]
    fields.setdefault("cell", content_hash(cell))
    return Record(**fields)  # type: ignore[arg-type]


def failure(pruner: str = "a", error: str = "", **other: object) -> Record:
    """A task that gave no values."""
    gone = {"metric": "", "value": math.nan, "ci_low": math.nan, "ci_high": math.nan, "n": 0, "data_fingerprint": ""}
    return record(pruner, **{**gone, "status": "failed", "error": error, **other})  # type: ignore[arg-type]


def write_run(folder: Path, records: Iterable[Record]) -> Path:
    """Write a run's journal; consecutive records of a cell and task are one group."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / "results.jsonl")
    group: list[Record] = []
    for one in records:
        if group and group[-1].group != one.group:
            journal.append(group)
            group = []
        group.append(one)
    if group:
        journal.append(group)
    journal.close()
    return folder


def boards_of(tmp_path: Path, *runs: list[Record]) -> list[Board]:
    return build(load_results([write_run(tmp_path / f"run{i}", run) for i, run in enumerate(runs)]))
