"""Several local processes: the same values as one, work made once, and a death that costs one cell."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from kit.runs import measured, run, said, with_task
from kit.toysuite import TOY_SUITE, Command

from pruningbench.errors import PruningBenchError, UsageError
from pruningbench.harness import pool
from pruningbench.harness.families import Families
from pruningbench.harness.measure import BESIDE_OTHERS
from pruningbench.harness.pool import places
from pruningbench.harness.poolworker import limit as limited_by
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store.journal import read_journal

Log = Callable[[], list[str]]
TWO = {"executor": "processes", "workers": 2}
FAULTS = """\
name: faults
models: [toy-net]
pruners: [toy-pruner]
sparsities: [0, 0.5, 0.7, 0.9]
tasks:
  - {use: toy-fault, data: {use: toy-data, split: test}, faults: [%s], at: [%s]}
  - {use: toy-task, data: {use: toy-data, split: test}}
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def statuses(folder: Path) -> dict[tuple[float, str], str]:
    table = load_results(folder, details=True)
    return {(row.sparsity, row.task): row.status for row in table.itertuples()}


def test_values_are_those_of_one_process(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    text = with_task("noise: true")
    run(text, toy_registry, tmp_path / "one", no_cache=True)
    (tmp_path / "toy.log").unlink()
    summary = run(text, toy_registry, tmp_path / "two", no_cache=True, **TWO)
    assert (summary.computed, summary.not_ok, summary.faults) == (10, (), ())
    one, two = measured(load_results(tmp_path / "one")), measured(load_results(tmp_path / "two"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    counts = Counter(line for line in toy_log() if not line.startswith("task"))
    assert counts["score"] == 1, "a score is made once for all processes"
    assert counts["model"] <= 2
    known = [json.loads((tmp_path / name / "sources.json").read_text()) for name in ("one", "two")]
    assert known[0] == known[1], "what the processes have learnt about models and data is kept"
    assert len(known[0]) == 3


@pytest.mark.slow
def test_digits_by_one_and_by_two_processes(pruningbench: Command, tmp_path: Path) -> None:
    part = ("run", "quickstart", "--limit", "20", "--only", "model=digits-resnet", "--only", "pruner=magnitude*",
            "--only", "task=classification", "--only", "task=transfer", "--device", "cpu")  # fmt: skip
    pruningbench(*part, "--out", "two", "--executor", "processes", "--workers", "2", "--no-cache", check=0)
    pruningbench(*part, "--out", "one", "--no-cache", check=0)
    one, two = (measured(load_results(tmp_path / name)) for name in ("one", "two"))
    assert len(one) > 20
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    for name in ("masks", "samples"):
        assert {f.name for f in (tmp_path / "one" / name).iterdir()} == {
            f.name for f in (tmp_path / "two" / name).iterdir()
        }


def test_a_run_by_processes_resumes_without_loading_anything(
    toy_registry: Registry, tmp_path: Path, toy_log: Log
) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run", **TWO)
    (tmp_path / "toy.log").unlink()
    summary = run(TOY_SUITE, toy_registry, tmp_path / "run", **TWO)
    assert (summary.computed, summary.resumed) == (0, 10)
    assert toy_log() == []


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("segfault", "was killed by SIGSEGV"),
        pytest.param("exit", "exited without a message (exit status 0)", marks=pytest.mark.slow),
    ],
)
def test_a_death_costs_one_task(fault: str, how: str, toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    outcome = said(FAULTS % (fault, "0.7"), toy_registry, tmp_path / "run", **TWO)
    assert outcome.summary.computed == 8
    assert [record.status for record in outcome.summary.not_ok] == ["crashed"]
    record = outcome.summary.not_ok[0]
    assert record.sparsity == 0.7
    assert record.error == f"the process {how} 2 times in a row at step {record.task!r} of this cell"
    assert Counter(statuses(tmp_path / "run").values()) == {"ok": 7, "crashed": 1}
    deaths = [line for line in outcome.warnings if how in line]
    assert deaths == list(outcome.summary.faults)
    assert [line.rpartition("; ")[2] for line in deaths] == ["trying again", "recorded"]
    assert sum(line.startswith("fault-task 0.7") for line in toy_log()) == 2
    assert sum(line.startswith("fault-task 0.5") for line in toy_log()) == 1


def test_a_death_that_does_not_recur_costs_nothing(toy_registry: Registry, tmp_path: Path) -> None:
    outcome = said(FAULTS % ("once", "0.5"), toy_registry, tmp_path / "run", **TWO)
    assert outcome.summary.ok
    assert len(outcome.summary.faults) == 1
    assert re.search(r"toy-pruner 0\.5 .*was killed by SIGSEGV .*trying again", outcome.summary.faults[0])
    assert set(statuses(tmp_path / "run").values()) == {"ok"}
    assert len(load_results(tmp_path / "run")) == 8


@pytest.mark.parametrize("options", [TWO, {}], ids=["processes", "serial"])
def test_what_hangs_is_killed(options: dict[str, object], toy_registry: Registry, tmp_path: Path) -> None:
    text = FAULTS % ("hang", "0.5")
    outcome = said(text, toy_registry, tmp_path / "run", task_timeout=12.0, **options)
    assert outcome.summary.computed == 8
    record, *others = outcome.summary.not_ok
    assert not others
    assert (record.status, record.sparsity) == ("timeout", 0.5)
    assert record.error.startswith("the process showed no progress for 12 s and was killed at step 'toy-fault")
    assert Counter(statuses(tmp_path / "run").values()) == {"ok": 7, "timeout": 1}
    assert [line.rpartition("; ")[2] for line in outcome.summary.faults] == ["recorded"]
    assert run(text, toy_registry, tmp_path / "run").computed == 0


def test_progress_notes_are_signs_of_life(toy_registry: Registry, tmp_path: Path) -> None:
    """A training may take long, as long as it goes on; its notes come from another process."""
    text = TOY_SUITE.replace("models: [toy-net]", "models: [{use: toy-net, train_seconds: 14.0}]")
    outcome = said(text, toy_registry, tmp_path / "run", task_timeout=10.0)
    assert outcome.summary.ok
    assert outcome.summary.faults == ()


def test_the_environment_says_how_many_threads_a_process_has(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on with another number of threads says so, because the last bits may differ."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run(TOY_SUITE, toy_registry, tmp_path / "run", only=("pruner=dense", "recipe=none"), **TWO)
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["threads"] == 3
    assert "has changed since this run began (threads)" in said(TOY_SUITE, toy_registry, tmp_path / "run").text


TIMED = """\
name: timed
models: [toy-net]
pruners: [toy-pruner]
sparsities: [0, 0.5]
tasks:
  - {use: efficiency, data: {use: toy-data, split: test}, repeats: 2, warmup: 0}
"""


@pytest.mark.parametrize(("options", "marked"), [(TWO, True), ({"executor": "processes"}, False), ({}, False)])
def test_times_of_a_shared_device_are_marked(
    options: dict[str, object], marked: bool, toy_registry: Registry, tmp_path: Path
) -> None:
    run(TIMED, toy_registry, tmp_path / "run", **options)
    records = read_journal(tmp_path / "run" / "results.jsonl")[0]
    remarks = {record.metric: record.remarks for record in records}
    assert (BESIDE_OTHERS in remarks["measured-latency"]) is marked
    assert BESIDE_OTHERS not in remarks["parameters"]


def test_bad_numbers_are_refused(toy_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one worker; for several, choose --executor processes"):
        run(TOY_SUITE, toy_registry, tmp_path / "run", workers=2)
    with pytest.raises(UsageError, match="at least one worker"):
        run(TOY_SUITE, toy_registry, tmp_path / "run", executor="processes", workers=0)
    for limit in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="seconds > 0"):
            run(TOY_SUITE, toy_registry, tmp_path / "run", task_timeout=limit)
    assert not (tmp_path / "run").exists()


def test_a_process_that_cannot_start_ends_the_run_in_one_line(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "serve", os._exit)
    with pytest.raises(PruningBenchError, match=r"exited without a message .* before it could run anything"):
        run(TOY_SUITE, toy_registry, tmp_path / "run", **TWO)


class Job:
    def __init__(self, name: str, *family: str) -> None:
        self.name, self.family = name, family


def test_families_stay_together_and_nobody_idles() -> None:
    jobs = [Job(f"{m}{t}{i}", m, t) for m in "ab" for t in "xy" for i in range(3)]
    families = Families(jobs)
    first = [families.take(0).name for _ in range(3)]
    assert first == ["ax0", "ax1", "ax2"]
    assert families.take(1).name == "bx0", "another process prefers a model that nobody has loaded"
    assert families.take(0).name == "ay0", "and the first goes on with its own model"
    assert [families.take(1).name for _ in range(5)] == ["bx1", "bx2", "by0", "by1", "by2"]
    assert families.take(1).name == "ay2", "no family is free: it takes the last job of one at work"
    assert families.take(0).name == "ay1"
    assert families.take(0) is families.take(1) is None
    assert len(families) == 0
    assert Families([object(), object()]).take(0) is not None, "jobs need not say what they share"


def test_threads_and_gpus_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(pool, "_cores", lambda: 8)
    assert [place.threads for place in places(3, "cpu")] == [2, 2, 2]
    assert [place.threads for place in places(20, "cpu")] == [1] * 20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    on_gpus = places(3, "cuda")
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in on_gpus] == ["3", "5", "3"]
    assert [place.memory for place in on_gpus] == [0.5] * 3
    assert [place.memory for place in places(2, "cuda")] == [1.0, 1.0]
    limited: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *told: limited.append(told))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    for place in (*places(2, "cuda:3"), *places(9, "cuda"), places(2, "cpu")[0]):
        limited_by(place)
    assert limited == [(0.5, 3)] * 2 + [(0.2, 0)] * 9
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7,8")
    seen = [place.environment["CUDA_VISIBLE_DEVICES"] for place in places(2, "cuda")]
    assert seen == ["3,6,8", "5,7"], "a training may use several"
    one = places(4, "cuda:1")
    assert [("CUDA_VISIBLE_DEVICES" in place.environment, place.memory) for place in one] == [(False, 0.25)] * 4
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert [place.threads for place in places(3, "cpu")] == [5, 5, 5]
