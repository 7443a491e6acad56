"""Whatever happens to a run: no finished measurement is lost or doubled, and its table is that of a quiet one.

The short form; `test_faults_long.py` has the long one.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kit.faulty import CELLS, Runs, assert_whole, kill, respect_permissions, small_files

from pruningbench.leaderboard.results import load_results

Begin = Callable[..., Runs]
FIELDS = "faults: [segfault, exit, print, nan, fork, linger, once{hang}], at: [.21, .3, .39, .51, .6, .69, .81{at}]"
pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_the_driver_is_killed_at_random_moments(executor: str, begin: Begin, quiet: pd.DataFrame) -> None:
    runs, rng, kills = begin(executor), random.Random(13), 0
    for _ in range(3):
        before = runs.done()
        process = runs.start()
        runs.wait_for(len(before) + rng.randint(1, 30), process)
        time.sleep(rng.random() * 0.1)
        kills += process.poll() is None
        process.kill()
        process.wait()
        assert runs.left_over() == [], "its processes end with it"
        assert runs.done()[: len(before)] == before
    assert kills == 3
    code, said = runs.finish()
    assert code == 0, said
    assert_whole(runs, quiet)


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_process_is_killed_within_a_cell(executor: str, begin: Begin, quiet: pd.DataFrame) -> None:
    runs = begin(executor)
    process = runs.start()
    killed = []
    for measurements in (4, 40):
        runs.wait_for(measurements, process)
        lines = (runs.place / "toy.log").read_text().splitlines()
        pid = int([line for line in lines if line.startswith("fault-task")][-1].rpartition(" ")[2])
        killed.append(kill(pid))
    assert killed == [True, True]
    assert process.wait(timeout=200) == 0
    deaths = [line for line in (runs.place / "said").read_text().splitlines() if "was killed by SIGKILL" in line]
    assert len(deaths) == 2, "one line for each"
    assert_whole(runs, quiet)


@pytest.mark.parametrize(
    "executor", ["serial", "processes", pytest.param("serial with a limit", marks=pytest.mark.slow)]
)
def test_cells_that_do_what_they_must_not(executor: str, begin: Begin, quiet: pd.DataFrame) -> None:
    hangs = executor != "serial"  # nobody can end what hangs in the only process
    fields = FIELDS.format(hang=", hang" if hangs else "", at=", .9" if hangs else "")
    runs = begin(executor, fields, *(("--task-timeout", "15") if hangs else ()))
    code, said = runs.finish()
    assert code == 1, said
    table = load_results(runs.place / "run", details=True)
    assert table["cell"].nunique() == CELLS, said
    bad = {0.21: "crashed", 0.3: "crashed"}
    timeouts = table[table["status"] == "timeout"]
    assert list(timeouts["sparsity"]) == ([0.9] if hangs else [])
    table = table[table["status"] != "timeout"]
    status = table.groupby("cell").agg({"sparsity": "first", "status": "first"})
    assert Counter(zip(status["sparsity"], status["status"], strict=True)) == {
        (sparsity, bad.get(sparsity, "ok")): {0: 1, 0.9: 1 if hangs else 2}.get(sparsity, 2)
        for sparsity in set(table["sparsity"])
    }
    key = ["pruner", "sparsity", "seed", "metric"]
    harmless = ~table["sparsity"].isin([*bad, 0.51])
    values = [
        one[~one["sparsity"].isin([*bad, 0.51, 0.9])].set_index(key)["value"].sort_index() for one in (table, quiet)
    ]
    assert harmless.sum() > 80
    pd.testing.assert_series_equal(*values, check_exact=True)
    margin = table[(table["metric"] == "toy-margin") & (table["sparsity"] == 0.51)]
    assert margin["value"].isna().all()
    assert not table.duplicated([*key, "task", "variant"]).any()
    summary = said.partition("task runs are not ok")[2]
    assert (summary.count("  crashed: "), summary.count("  timeout: ")) == (4, int(hangs))
    assert runs.left_over() == []


def test_damaged_lines_and_cache_files(begin: Begin, quiet: pd.DataFrame) -> None:
    runs = begin("processes")
    assert runs.finish()[0] == 0
    lines = runs.journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 * CELLS
    lines[10] = lines[10][:-40] + b"\n"  # torn, and written on
    lines[21] = b"\x00" * 100 + b"\n"
    lines.insert(60, b'{"loss": 0.5, "epoch": 3}\n')  # of another program
    lines.append(lines[3][:50])  # a last line that was not finished
    runs.journal.write_bytes(b"".join(lines))
    files = sorted((runs.place / "cache").rglob("*.safetensors"))
    assert len(files) > 10
    for number, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if number % 2 else b"of another program")
    code, said = runs.finish()
    assert code == 0, said
    named = [line for line in said.splitlines() if "damaged line moved to results.damaged.jsonl" in line]
    assert [int(line.partition("results.jsonl:")[2].partition(":")[0]) for line in named] == [11, 12, 22, 61, 124]
    assert "damaged cache file is made again" in said
    assert f"2 task runs computed now, {CELLS - 2} done before" in said
    assert_whole(runs, quiet)
    assert len((runs.place / "run" / "results.damaged.jsonl").read_bytes().splitlines()) == 6
    code, said = runs.finish()
    assert "nothing to compute, all was done before" in said


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_sigterm_ends_a_run_in_time(executor: str, begin: Begin, quiet: pd.DataFrame) -> None:
    """Slurm and spot instances send SIGTERM and kill 30 s later."""
    runs = begin(executor)
    process = runs.start()
    runs.wait_for(10, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    assert runs.left_over() == []
    assert "interrupted; finished tasks are safe" in (runs.place / "said").read_text()
    before = runs.done()
    code, said = runs.finish()
    assert code == 0, said
    assert runs.done()[: len(before)] == before
    assert_whole(runs, quiet)


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_the_run_folder_becomes_read_only(executor: str, begin: Begin, quiet: pd.DataFrame) -> None:
    runs = begin(executor)
    process = runs.start(before=respect_permissions)
    runs.wait_for(10, process)
    folders = [runs.place / "run", *(f for f in (runs.place / "run").iterdir() if f.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    assert process.wait(timeout=60) == 1
    said = (runs.place / "said").read_text()
    for folder in folders:
        folder.chmod(0o755)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "cannot be written (" in errors[0]
    assert "Traceback" not in said
    assert runs.left_over() == []
    code, said = runs.finish()
    assert code == 0, said
    assert_whole(runs, quiet)


def test_the_disk_is_full(begin: Begin, quiet: pd.DataFrame) -> None:
    runs = begin("processes")
    code, said = runs.finish(before=small_files(60_000))
    assert code == 1
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "finished tasks are safe: make room and run the same command again" in errors[0]
    assert 0 < len(runs.done()) < 2 * CELLS
    code, said = runs.finish()
    assert code == 0, said
    assert_whole(runs, quiet)
