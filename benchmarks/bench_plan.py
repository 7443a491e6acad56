"""`pruningbench plan` of 100,000 cells. The bars: 5 s of processor time and 1 GB, the import of torch included.

python -m pytest benchmarks/bench_plan.py --benchmark-only -s
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SUITE = {
    "name": "large",
    "models": ["digits-resnet", "digits-vit"],
    "pruners": [
        "magnitude", {"use": "magnitude", "allocation": "uniform"}, {"use": "magnitude", "allocation": "erk"},
        "random", "snip",
    ],
    "sparsities": [round(i / 101, 5) for i in range(101)],
    "recipes": ["none", {"use": "finetune", "epochs": 1}],
    "seeds": list(range(50)),
    "tasks": [{"use": "classification", "data": "digits"}],
}  # fmt: skip
CODE = """
import contextlib, io, resource, sys
from pruningbench.cli.plan import plan
with contextlib.redirect_stdout(io.StringIO()) as out:
    plan.main([sys.argv[1]], standalone_mode=False)
cells = next(line.split()[1] for line in out.getvalue().splitlines() if line.startswith("cells"))
used = resource.getrusage(resource.RUSAGE_SELF)
print(cells, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10)
"""


def test_plan_of_many_cells(benchmark: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Plan in a process of its own; processor time and memory stand in `extra_info` and are printed."""
    path = tmp_path / "large.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    measured: list[tuple[int, float, float]] = []

    def plan() -> None:
        done = subprocess.run(
            [sys.executable, "-c", CODE, path], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        cells, seconds, megabytes = done.stdout.split()
        measured.append((int(cells), float(seconds), float(megabytes)))

    benchmark.pedantic(plan, rounds=3)  # type: ignore[attr-defined]
    cells, seconds, megabytes = min(measured, key=lambda one: one[1])
    assert cells == 100_200
    benchmark.extra_info.update(cells=cells, cpu_s=seconds, memory_mb=megabytes)  # type: ignore[attr-defined]
    print(f"\n{cells} cells: {seconds:.2f} s of processor time, {megabytes:.0f} MB")  # noqa: T201
