"""Processes of Ray: the same values as one process, a death that costs one task, and nodes that come and go.

Quick tests are those of wrong use; those with a cluster are slow, and `tests/faults` has its long form.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import ray
from kit.runs import measured, run, said, with_task
from kit.toysuite import TOY_SUITE
from ray.cluster_utils import Cluster

from pruningbench.errors import PruningBenchError, UsageError
from pruningbench.harness import raycluster
from pruningbench.harness.raycluster import RayExecutor
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry

Log = Callable[[], list[str]]
RAY = {"executor": "ray", "workers": 2}
FAULTS = """\
name: faults
models: [toy-net]
pruners: [toy-pruner]
sparsities: [0, 0.5, 0.6, 0.7, 0.8, 0.9]
tasks:
  - {use: toy-fault, data: {use: toy-data, split: test}, faults: [once, segfault, hang, fork], at: [0.5, 0.6, 0.7, 0.8]}
  - {use: toy-task, data: {use: toy-data, split: test}}
"""
SLOW = """\
name: slow
models: [toy-net]
pruners: [toy-pruner]
sparsities: [0, .1, .2, .3, .4, .5, .6, .7, .8, .9]
tasks:
  - {use: toy-fault, data: {use: toy-data, split: test}, seconds: 2}
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    assert not ray.is_initialized(), "what the executor has started ends with it"


@pytest.fixture()
def cluster() -> Iterator[Cluster]:
    """A cluster of two nodes, with one core each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_values_are_those_of_one_process(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    text = with_task("noise: true")
    run(text, toy_registry, tmp_path / "one", no_cache=True)
    (tmp_path / "toy.log").unlink()
    summary = run(text, toy_registry, tmp_path / "two", no_cache=True, **RAY)
    assert (summary.computed, summary.not_ok, summary.faults) == (10, (), ())
    pd.testing.assert_frame_equal(
        measured(load_results(tmp_path / "one")), measured(load_results(tmp_path / "two")), check_exact=True
    )
    counts = Counter(line for line in toy_log() if not line.startswith("task"))
    assert counts["score"] == 1, "a score is made once for all processes"
    assert counts["model"] <= 2, "processes keep their model"


@pytest.mark.slow
def test_deaths_and_hangs_cost_one_task(toy_registry: Registry, tmp_path: Path) -> None:
    outcome = said(FAULTS, toy_registry, tmp_path / "run", task_timeout=15.0, **RAY)
    table = load_results(tmp_path / "run", details=True)
    bad = table[table["status"] != "ok"]
    assert dict(zip(bad["sparsity"], bad["status"], strict=True)) == {0.6: "crashed", 0.7: "timeout"}
    assert table["cell"].nunique() == 6
    good = table[table["status"] == "ok"]
    assert Counter(good.groupby("cell")["task"].nunique()) == {2: 4, 1: 2}
    assert not good.duplicated(["cell", "task", "metric"]).any(), "a copy that a task forked writes nothing"
    assert len(outcome.summary.faults) == 4, "\n".join(outcome.summary.faults)
    died = [line for line in outcome.summary.faults if "died (" in line]
    assert len(died) == 3
    assert all(re.search(r"died \(\S+, process \d+\)", line) for line in died)


@pytest.mark.slow
def test_nodes_come_and_go(toy_registry: Registry, tmp_path: Path, cluster: Cluster) -> None:
    run(SLOW, toy_registry, tmp_path / "quiet")
    folder = tmp_path / "run"

    with ThreadPoolExecutor(1) as pool:  # nodes are started by the main thread
        running = pool.submit(said, SLOW, toy_registry, folder, address=cluster.address, **RAY)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not running.done() and not (folder / "results.jsonl").exists():
            time.sleep(0.1)
        time.sleep(1)  # within the next task of each process
        cluster.remove_node(cluster.worker_nodes.copy().pop())
        cluster.add_node(num_cpus=1)
        outcome = running.result()
    assert outcome.summary.ok
    lost = [line for line in outcome.summary.faults if "was lost with its node" in line]
    assert len(lost) == len(outcome.summary.faults) <= 1, "a process between two tasks loses nothing"
    pd.testing.assert_frame_equal(
        measured(load_results(tmp_path / "quiet")), measured(load_results(folder)), check_exact=True
    )
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == len(load_results(folder))


@pytest.mark.slow
def test_what_ray_would_wait_for_in_silence_is_refused(
    toy_registry: Registry, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=r"each worker needs 1 cores, and the cluster has room for 2 of them"):
        run(TOY_SUITE, toy_registry, out, executor="ray", workers=3, address=cluster.address)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(UsageError, match=r"each worker needs 2 cores, and the cluster has room for 0 of them \(its no"):
        run(TOY_SUITE, toy_registry, out, executor="ray", workers=1, address=cluster.address)
    executor = RayExecutor(print, 1)  # type: ignore[arg-type]
    executor.address = cluster.address
    executor.start()
    for device, problem in (("cuda", "no node of the Ray cluster has a GPU"), ("cuda:1", "Ray chooses the GPU")):
        with pytest.raises(UsageError, match=problem):
            executor.resolve_device(device)
    executor.close()
    assert not out.exists(), "nothing is written"


@pytest.mark.slow
def test_other_versions_on_a_node_end_the_run_in_one_line(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {**raycluster.software(), "torch": "99.0"}
    monkeypatch.setattr(raycluster, "software", lambda: versions)
    with pytest.raises(
        PruningBenchError, match=r"has torch \S+ instead of 99\.0; all nodes need the same versions"
    ) as e:
        run(TOY_SUITE, toy_registry, tmp_path / "run", executor="ray")
    assert "\n" not in str(e.value)


def test_wrong_use_is_refused(toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="executor 'processes' uses no cluster; choose --executor ray"):
        run(TOY_SUITE, toy_registry, tmp_path / "run", executor="processes", address="auto")
    with pytest.raises(UsageError, match="at least one worker"):
        run(TOY_SUITE, toy_registry, tmp_path / "run", executor="ray", workers=0)
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "localhost:99999"):
        with pytest.raises(UsageError, match=r"--executor ray: cannot use a Ray cluster at ") as caught:
            run(TOY_SUITE, toy_registry, tmp_path / "run", executor="ray", address=address)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(raycluster, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'pruningbench\[ray\]'"):
        run(TOY_SUITE, toy_registry, tmp_path / "run", executor="ray")
    assert not (tmp_path / "run").exists()


def test_gpus_are_shared_in_equal_parts() -> None:
    def share(workers: int, gpus: int) -> float:
        executor = RayExecutor(print, workers)  # type: ignore[arg-type]
        executor._gpus = gpus
        return executor._share("cuda")

    assert [share(*case) for case in ((1, 1), (2, 2), (2, 1), (3, 1), (3, 2), (8, 8))] == [1, 1, 0.5, 0.3333, 0.5, 1]
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 2.0, "GPU": 4.0}]
    executor = RayExecutor(print, 6)  # type: ignore[arg-type]
    executor._threads = 2
    with pytest.raises(UsageError, match="has room for 3 of them"):
        executor._check_room(nodes, 1.0)
    executor.workers = 5
    executor._check_room(nodes, 0.5)
