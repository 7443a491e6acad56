"""Going on with a run of a million rows, and what a run costs for each small cell.

The bars: 10 s of processor time and 1 GB to find that nothing is left of a million rows, imports included; 50 ms for
each cell beside its own work. The rows are those of a real small run, repeated for all seeds and sparsities of a large
plan. PRUNINGBENCH_BENCH_ROWS sets the number of rows.

    python -m pytest benchmarks/bench_resume.py --benchmark-only -s
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench_harness import bare_loop, through_harness

from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.plugins import load_registry
from pruningbench.store.journal import encoded, read_journal
from pruningbench.suite.cells import plan_key
from pruningbench.suite.plan import make_plan
from pruningbench.suite.schema import load_suite

SUITE: dict[str, Any] = {
    "name": "large",
    "models": [{"use": "digits-resnet", "channels": [8, 8, 8, 8], "epochs": 1}],
    "pruners": ["magnitude", {"use": "magnitude", "allocation": "uniform"}, "random"],
    "sparsities": [0, 0.5],
    "recipes": ["none"],
    "seeds": [0],
    "tasks": [
        {"use": "classification", "data": {"use": "digits", "classes": [0, 1, 2, 3, 4, 5], "size": 24, "limit": 32}}
    ],
    "metrics": ["nll", "brier", "ece"],
}
CODE = """
import contextlib, io, resource, sys
from pruningbench.cli.plan import plan
with contextlib.redirect_stdout(io.StringIO()) as out:
    plan.main([sys.argv[1], "--out", sys.argv[2]], standalone_mode=False)
left = next(line for line in out.getvalue().splitlines() if line.startswith("task runs"))
assert ", 0 still to do" in left, left
used = resource.getrusage(resource.RUSAGE_SELF)
# not ru_maxrss, which begins with the memory of the process that started this one
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, int(peak.split()[1]) / 2**10)
"""
MORE_TASKS: list[dict[str, Any]] = [
    {**SUITE["tasks"][0], "use": "calibration"},
    {**SUITE["tasks"][0], "use": "dense-similarity"},
]
"""With these a cell has ten rows of three tasks, instead of four of one."""
MARKS: dict[str, Any] = {
    "cell": "CELL", "plan": "PLAN", "artifact": "ARTIFACT", "sparsity": 0.123456789, "seed": 987654321
}  # fmt: skip
"""What stands in the lines of one cell where those of another differ."""
CELLS = 300
ROUNDS = 3


def field(name: str, value: object) -> bytes:
    """Return a field of a line as the journal writes it."""
    return f'"{name}":{json.dumps(value)}'.encode()


def write_suite(folder: Path, **changes: object) -> Path:
    path = folder / "large.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes))
    return path


def write_finished(folder: Path, rows: int, *more: dict[str, Any]) -> tuple[Path, Path, int, int]:
    """Run one cell of each kind, and write its rows for as many seeds and sparsities as give `rows` rows.

    Returns:
        The suite, the run folder, and the numbers of cells and of rows.
    """
    registry = load_registry()
    tasks = [*SUITE["tasks"], *more]
    small = load_suite(str(write_suite(folder, tasks=tasks)), registry)
    out = folder / "run"
    execute(prepare(small, registry, out, RunOptions(device="cpu")), registry)
    first, _ = read_journal(out / "results.jsonl")
    templates: dict[tuple[str, str, str], list[Any]] = {}
    for one in first:
        templates.setdefault((one.model, one.pruner, one.task), []).append(one)
    each = len(first) * len(tasks) // len(templates)
    sparsities = 99
    seeds = -(-rows // (each * 3 * sparsities))
    path = write_suite(
        folder,
        tasks=tasks,
        sparsities=[i / (sparsities + 1) for i in range(sparsities + 1)],
        seeds=list(range(seeds)),
    )
    plan = make_plan(load_suite(str(path), registry), registry)
    marked = {
        kind: encoded([replace(one, **MARKS, made_of={**one.made_of, "network": "NETWORK"}) for one in lines])
        for kind, lines in templates.items()
    }
    written = 0
    with (out / "results.jsonl").open("wb") as journal:
        for cell in plan.cells:
            for run in plan.tasks_of(cell):
                kind = (cell.model.label, cell.pruner_label, run.label)
                key = plan_key(cell, run)
                own = {
                    "cell": cell.key, "plan": key, "artifact": key[::-1], "sparsity": cell.sparsity, "seed": cell.seed,
                }  # fmt: skip
                lines = marked[kind].replace(field("network", "NETWORK"), field("network", cell.key[::-1]))
                for name, mark in MARKS.items():
                    lines = lines.replace(field(name, mark), field(name, own[name]))
                journal.write(lines)
                written += len(templates[kind])
    return path, out, len(plan.cells), written


@pytest.mark.parametrize("more", [MORE_TASKS, []], ids=["ten rows a cell", "four rows a cell"])
def test_resume_of_many_rows(benchmark: pytest.FixtureRequest, tmp_path: Path, more: list[dict[str, Any]]) -> None:
    """`plan` of a finished run reads all rows and compares each task with what it would be made from."""
    rows = int(os.environ.get("PRUNINGBENCH_BENCH_ROWS", "1000000"))
    suite, out, cells, rows = write_finished(tmp_path, rows, *more)
    measured: list[tuple[float, float]] = []

    def plan() -> None:
        command = [sys.executable, "-c", CODE, str(suite), str(out)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        seconds, megabytes = done.stdout.split()
        measured.append((float(seconds), float(megabytes)))

    benchmark.pedantic(plan, rounds=1)  # type: ignore[attr-defined]
    ((seconds, megabytes),) = measured
    benchmark.extra_info.update(cells=cells, rows=rows, cpu_s=seconds, memory_mb=megabytes)  # type: ignore[attr-defined]
    print(f"\n{rows:,} rows of {cells:,} cells: {seconds:.2f} s of processor time, {megabytes:.0f} MB")  # noqa: T201


def test_each_cell(benchmark: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Time small cells through the harness and in a bare loop, in turn; the difference for each cell is printed."""
    registry = load_registry()
    path = write_suite(tmp_path, sparsities=[0, *(round(i / 101, 4) for i in range(1, CELLS // 3 + 1))])
    suite = load_suite(str(path), registry)
    plan = make_plan(suite, registry)
    bare_loop(plan)
    bare, harness = [], []
    for i in range(ROUNDS):
        start, cpu = time.perf_counter(), processor_time()
        bare_loop(plan)
        bare.append((time.perf_counter() - start, processor_time() - cpu))
        start, cpu = time.perf_counter(), processor_time()
        through_harness(suite, tmp_path / str(i))
        harness.append((time.perf_counter() - start, processor_time() - cpu))
    extra = [
        1000
        * (statistics.median(h[place] for h in harness) - statistics.median(b[place] for b in bare))
        / len(plan.cells)
        for place in (0, 1)
    ]
    benchmark.extra_info.update(cells=len(plan.cells), overhead_ms=extra[0], overhead_cpu_ms=extra[1])  # type: ignore[attr-defined]
    print(f"\n{len(plan.cells)} cells: {extra[0]:.1f} ms each beside their work, {extra[1]:.1f} ms of it computing")  # noqa: T201
    benchmark.pedantic(lambda: None, rounds=1)  # type: ignore[attr-defined]


def processor_time() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
