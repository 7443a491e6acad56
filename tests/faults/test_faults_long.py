"""The long form: the driver and its processes are killed twenty times, by each executor."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pandas as pd
import pytest
from kit.faulty import EXECUTORS, Runs, assert_whole, kill

pytestmark = pytest.mark.slow


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("executor", list(EXECUTORS))
def test_twenty_kills_of_the_driver(executor: str, begin: Callable[..., Runs], quiet: pd.DataFrame) -> None:
    """At any moment: also while plugins are loaded, the model is checked, or processes start."""
    runs, rng = begin(executor), random.Random(20)
    for number in range(20):
        before = runs.done()
        process = runs.start()
        if number % 2:
            time.sleep(rng.random() * 8)
        else:
            runs.wait_for(len(before) + rng.randint(1, 6), process)
        process.kill()
        process.wait()
        assert runs.left_over() == []
        assert runs.done()[: len(before)] == before
    code, said = runs.finish()
    assert code == 0, said
    assert_whole(runs, quiet)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("executor", list(EXECUTORS))
def test_twenty_kills_of_processes(executor: str, begin: Callable[..., Runs], quiet: pd.DataFrame) -> None:
    """Each within another cell, so that none is blamed."""
    runs, rng = begin(executor), random.Random(21)
    process = runs.start()
    kills = 0
    for measurements in range(2, 2 * 20, 2):
        runs.wait_for(measurements, process)
        time.sleep(rng.random() * 0.1)
        lines = (runs.place / "toy.log").read_text().splitlines()
        kills += kill(int([line for line in lines if line.startswith("fault-task")][-1].rpartition(" ")[2]))
    assert kills > 5
    assert process.wait(timeout=900) in (0, 1)
    code, said = runs.finish("--retry-failed")
    assert code == 0, said

    assert_whole(runs, quiet, exactly=False)
