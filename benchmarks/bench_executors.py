"""Executors: two workers against one process on cells of about 2 s, and what a cell costs beside its work.

The bar is 1.6 times the speed of one process on two free cores, the start of the workers included. Run it on a machine
with at least two free cores; each process computes with one thread.

    python -m pytest benchmarks/bench_executors.py --benchmark-only -s
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

CELLS = int(os.environ.get("PRUNINGBENCH_BENCH_CELLS", "40"))
SUITE = {
    "name": "scaling",
    "models": ["digits-resnet"],
    "pruners": ["magnitude"],
    "sparsities": [0, *(round((i + 1) / (CELLS + 2), 4) for i in range(CELLS - 1))],
    "tasks": [
        {
            "use": "interpretability",
            "data": {"use": "digits", "split": "test", "limit": 60},
            "methods": ["smoothgrad", "integrated-gradients"], "noisy": 32, "steps": 32, "exhibits": 0,
        }
    ],
}  # fmt: skip
MAIN = "from pruningbench.cli.main import main; main()"
EXECUTORS = {
    "serial": ("--executor", "serial"),
    "processes": ("--executor", "processes", "--workers", "2"),
    "ray": ("--executor", "ray", "--workers", "2"),
}


def seconds(place: Path, executor: str) -> float:
    """Run the suite in a process of its own, from nothing but a trained model, and return its time."""
    (place / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PRUNINGBENCH_CACHE": str(place / "cache")}
    command = [sys.executable, "-c", MAIN, "run", "suite.yaml", "--device", "cpu"]
    start = time.perf_counter()
    subprocess.run(
        [*command, "--out", f"run-{executor}", *EXECUTORS[executor]],
        cwd=place, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - start


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_two_workers(executor: str, benchmark: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Time the executor; the ratio to one process stands in `extra_info` and is printed."""
    warm = {**SUITE, "sparsities": [0]}
    (tmp_path / "warm.yaml").write_text(yaml.safe_dump(warm))
    subprocess.run(  # trains the model into the cache, for both
        [sys.executable, "-c", MAIN, "run", "warm.yaml", "--device", "cpu", "--out", "warm"],
        cwd=tmp_path,
        env={**os.environ, "PRUNINGBENCH_CACHE": str(tmp_path / "cache")},
        check=True,
        capture_output=True,
    )
    alone = seconds(tmp_path, "serial")
    together = benchmark.pedantic(seconds, args=(tmp_path, executor), rounds=1)  # type: ignore[attr-defined]
    ratio = alone / together
    benchmark.extra_info.update(cells=CELLS, serial_s=alone, seconds=together, ratio=ratio)  # type: ignore[attr-defined]
    print(f"\n{executor}: {CELLS} cells of {alone / CELLS:.2f} s, {ratio:.2f} times one process")  # noqa: T201
