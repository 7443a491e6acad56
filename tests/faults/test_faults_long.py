"""The long form: the driver and its processes are killed twenty times, by each executor; a cluster loses its nodes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kit.faulty import EXECUTORS, SUITE, Runs, assert_whole, blamed, kill
from ray.cluster_utils import Cluster

from pruningbench.leaderboard.results import load_results

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
    """Where they are at work: mostly in another cell each; one that is hit twice is recorded, and measured again."""
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
    again = blamed(runs)
    assert 2 * len(again) <= kills, "two losses for each"
    code, said = runs.finish("--retry-failed")
    assert code == 0, said
    assert_whole(runs, quiet, exactly=False, again=again)


@pytest.mark.timeout(1800)
def test_a_cluster_whose_nodes_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 cells on 8 simulated nodes with a core each, of which one after another is lost and replaced."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sparsities = ", ".join(f"{i / 2000:.4f}" for i in range(2000))
    head, tail = SUITE.format(fields="seconds: 0.02").split("pruners:")
    text = f"{head}pruners: [toy-pruner]\nsparsities: [{sparsities}]\ntasks:{tail.partition('tasks:')[2]}"
    (tmp_path / "suite.yaml").write_text(text)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(8):
            cluster.add_node(num_cpus=1)
        options = ("--executor", "ray", "--workers", "8", "--address", cluster.address)
        runs = Runs(tmp_path, tmp_path / "suite.yaml", options)
        process, rng, changes = runs.start(), random.Random(8), 0
        for measurements in range(200, 3600, 400):
            runs.wait_for(measurements, process, seconds=600)
            if process.poll() is None:
                cluster.remove_node(rng.choice(sorted(cluster.worker_nodes, key=lambda node: node.node_id)))
                cluster.add_node(num_cpus=1)
                changes += 1
        assert process.wait(timeout=1200) in (0, 1)
        assert changes >= 5
    finally:
        cluster.shutdown()
    code, said = Runs(tmp_path, runs.suite, ()).finish("--retry-failed")
    assert code == 0, said
    table = load_results(tmp_path / "run")
    assert table["cell"].nunique() == 2000
    assert not table.duplicated(["cell", "task", "variant", "metric"]).any()
