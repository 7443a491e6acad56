"""The site of 100,000 measurements: seconds of the processor, peak memory and bytes.

    pytest benchmarks/bench_site.py

The numbers stand in `extra_info`. Nothing is asserted about times.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from kit.synthetic import write_synthetic
from pytest_benchmark.fixture import BenchmarkFixture

from pruningbench.site import build_site

ROWS = 100_000
UNIT = 1024 if sys.platform != "darwin" else 1024**2
"""`ru_maxrss` in units of a megabyte."""


def test_site_of_many_rows(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Build the site of a run without per-sample values and exhibits."""
    rows = write_synthetic(tmp_path / "run", ROWS, seeds=1)
    begun = time.process_time()
    built = benchmark.pedantic(build_site, ([tmp_path / "run"], tmp_path / "site"), rounds=1)
    benchmark.extra_info |= {
        "rows": rows,
        "processor seconds": time.process_time() - begun,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT,
        "MB": built.size / 1e6,
    }
