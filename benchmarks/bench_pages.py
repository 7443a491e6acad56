"""Pages of many values in Chromium: what a reader waits for, in milliseconds.

    pytest benchmarks/bench_pages.py

Sorting, filtering and searching 100,000 values (bar: 300 ms), and the first picture of 10,000 values opened from disk
(bar: 1,000 ms); each is the least of three. The numbers stand in `extra_info`. Nothing is asserted about times.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kit.browser import ACTIONS, READY, find_chromium, running, timed
from kit.smallruns import many_values, small_run
from pytest_benchmark.fixture import BenchmarkFixture

from pruningbench.site import build_site


def site_of(values: int, tmp_path: Path) -> Path:
    """Return the site of a small run whose values are repeated."""
    built = build_site([small_run(tmp_path / "run")], tmp_path / "site").folder
    many = Path(shutil.copytree(built, tmp_path / "many"))
    file = many / "data" / "board-0.js"
    file.write_bytes(many_values(file.read_bytes(), values))
    return many


def test_actions_on_many_values(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Sort, filter and search 100,000 values."""
    assert find_chromium(), "this benchmark needs a Chromium"
    pages = site_of(100_000, tmp_path)
    with running() as browser, browser.open(pages / "table.html", "#view=values") as visit:
        visit.page.wait_for_selector(READY["table.html"])
        took = {name: min(timed(visit, action) for _ in range(3)) for name, action in ACTIONS.items()}
        benchmark.pedantic(timed, (visit, ACTIONS["sort"]), rounds=1)
    benchmark.extra_info |= took


@pytest.mark.parametrize("page", ["index.html", "table.html"])
def test_first_picture(benchmark: BenchmarkFixture, tmp_path: Path, page: str) -> None:
    """Open a page of 10,000 values from disk until it is drawn."""
    assert find_chromium(), "this benchmark needs a Chromium"
    pages = site_of(10_000, tmp_path)
    drawn = []

    def look() -> None:
        with browser.open(pages / page) as visit:
            visit.page.wait_for_selector(READY[page])
            drawn.append(visit.page.evaluate("performance.getEntriesByName('drawn')[0].startTime"))

    with running() as browser:
        benchmark.pedantic(look, rounds=3)
    benchmark.extra_info["drawn after ms"] = min(drawn)
