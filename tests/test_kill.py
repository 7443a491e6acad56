"""kill -9 at any moment: nothing finished is lost, nothing is doubled, and the end is the same."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kit.commands import start_silently
from kit.toysuite import TOY_SUITE, Command, toy_environment

from pruningbench.leaderboard.results import load_results
from pruningbench.store.journal import read_journal

SUITE = (
    TOY_SUITE.replace("models: [toy-net]", "models: [{use: toy-net, train_seconds: 1.0}]")
    .replace("sparsities: [0, 0.5, 0.9]", "sparsities: [0, 0.5, 0.7, 0.9]")
    .replace("{use: toy-task, ", "{use: toy-task, noise: true, seconds: 0.15, ")
)
VARYING = ["run", "seconds", "peak_memory_mb"]


def comparable(folder: Path) -> pd.DataFrame:
    """Return all that has to be equal between an interrupted run and one that was not."""
    table = load_results(folder).drop(columns=VARYING)
    return table.sort_values(["cell", "task", "metric"], ignore_index=True)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_kill_at_random_moments(
    seed: int, suite_file: Callable[..., Path], tmp_path: Path, pruningbench: Command, toy_log: Callable[[], list[str]]
) -> None:
    path = suite_file(SUITE)
    pruningbench("run", path, "--out", "whole", check=0)
    in_whole = Counter(line for line in toy_log() if line.startswith("task"))
    (tmp_path / "toy.log").unlink()
    rng = random.Random(seed)
    journal = tmp_path / "killed" / "results.jsonl"
    kills = 0
    for _ in range(4):
        process = start_silently("run", str(path), "--out", "killed", cwd=tmp_path, env=toy_environment())
        finished_before, _ = read_journal(journal)
        # wait until a task more is finished than before, so that the kills fall all over the run
        deadline = time.monotonic() + 60
        while (
            time.monotonic() < deadline
            and process.poll() is None
            and len(read_journal(journal)[0]) == len(finished_before)
        ):
            time.sleep(0.02)
        time.sleep(rng.random() * 0.6)
        kills += process.poll() is None
        process.kill()
        process.wait()
        after, _ = read_journal(journal)
        assert [repr(r) for r in after[: len(finished_before)]] == [repr(r) for r in finished_before]
    assert kills >= 3
    pruningbench("run", path, "--out", "killed", check=0)
    pd.testing.assert_frame_equal(comparable(tmp_path / "whole"), comparable(tmp_path / "killed"), check_exact=True)
    lines = journal.read_text().splitlines()
    assert len(lines) == len(set(lines)) == len(load_results(tmp_path / "killed"))
    # a finished task is not run again: only the one at work at each kill may have begun twice
    in_killed = Counter(line for line in toy_log() if line.startswith("task"))
    assert sum((in_killed - in_whole).values()) <= kills
    figures = {file.name for file in (tmp_path / "killed" / "figures").glob("*.png")}
    assert figures == {file.name for file in (tmp_path / "whole" / "figures").glob("*.png")}


def test_kill_while_the_model_is_made(suite_file: Callable[..., Path], tmp_path: Path, pruningbench: Command) -> None:
    """Early deaths, before any cell is finished, condemn no cell."""
    path = suite_file(SUITE)
    for delay in (0.3, 1.0, 2.0, 3.0, 3.5):
        process = start_silently("run", str(path), "--out", "killed", cwd=tmp_path, env=toy_environment())
        time.sleep(delay)
        process.kill()
        process.wait()
    pruningbench("run", path, "--out", "killed", check=0)
    assert (load_results(tmp_path / "killed")["status"] == "ok").all()


def test_the_worker_dies_with_its_supervisor(suite_file: Callable[..., Path], tmp_path: Path) -> None:
    path = suite_file(SUITE.replace("seconds: 0.15", "seconds: 5.0"))
    process = start_silently("run", str(path), "--out", "run", cwd=tmp_path, env=toy_environment())
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "running.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{children[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{children[0]}").exists()
