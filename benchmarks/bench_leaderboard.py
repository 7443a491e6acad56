"""Large run folders: seconds and peak memory of the leaderboard's command line and of `load_results`.

The bars are absolute: 100,000 measurements as a table in 3 s and 600 MB, a million loaded in 10 s and 1 GB. Each is
measured in a process of its own, imports included. PRUNINGBENCH_BENCH_ROWS sets the number of measurements of both.

    python -m pytest benchmarks/bench_leaderboard.py --benchmark-only -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit.synthetic import write_synthetic

MEASURED = """
import json, resource, sys, time
start, cpu = time.perf_counter(), time.process_time()
{code}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
used = dict(seconds=time.perf_counter() - start, cpu=time.process_time() - cpu, megabytes=peak)
print(json.dumps(used), file=sys.stderr)
"""
TABLE = """
from pruningbench.cli.main import cli
cli.main(["leaderboard", sys.argv[1], "--width", "80"], standalone_mode=False)
"""
LOAD = """
from pruningbench import load_results
assert len(load_results(sys.argv[1]))
"""


@pytest.mark.parametrize(("code", "rows"), [(TABLE, 100_000), (LOAD, 1_000_000)], ids=["table", "load"])
def test_large_runs(benchmark: pytest.FixtureRequest, code: str, rows: int, tmp_path: Path) -> None:
    """Print seconds (wall clock and processor) and the peak of the memory."""
    rows = int(os.environ.get("PRUNINGBENCH_BENCH_ROWS", rows))
    written = write_synthetic(tmp_path / "run", rows)
    command = [sys.executable, "-c", MEASURED.format(code=code), str(tmp_path / "run")]

    def measure() -> dict[str, float]:
        said = subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
        used: dict[str, float] = json.loads(said.splitlines()[-1])
        return used

    used = benchmark.pedantic(measure, rounds=1)  # type: ignore[attr-defined]
    benchmark.extra_info.update(used)  # type: ignore[attr-defined]
    print(f"\n{written:,} rows: {', '.join(f'{name} {value:.2f}' for name, value in used.items())}")  # noqa: T201
