"""The harness in this process: what runs, what is shared, what is recorded, what a failure costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kit.runs import measured, run, with_task
from kit.toysuite import TOY_SUITE

from pruningbench.errors import MissingDataError, RunFolderError, UsageError
from pruningbench.harness.driver import Summary
from pruningbench.harness.measure import with_smaller_batches
from pruningbench.harness.run import RunOptions, execute, finished_summary, prepare
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.pruning.masks import Masks
from pruningbench.store.samples import read_arrays
from pruningbench.suite.schema import suite_from_text

Log = Callable[[], list[str]]


def test_a_run_measures_everything_once(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    summary = run(TOY_SUITE, toy_registry, tmp_path / "run")
    assert summary == Summary(cells=10, computed=10, resumed=0, not_ok=())
    table = load_results(tmp_path / "run")
    assert len(table) == 10 * 2
    assert set(table["metric"]) == {"toy-accuracy", "toy-margin"}
    assert (table["status"] == "ok").all()
    assert (table["n"] == 64).all()
    assert not table.duplicated(["cell", "task", "variant", "metric"]).any()
    assert set(table["data_fingerprint"]) != {""}
    assert set(table["plugin"]) == {"toybench"}
    dense = table[table["sparsity"] == 0]
    assert set(dense["pruner"]) == {"dense"}
    assert sorted(dense["recipe"]) == ["finetune(epochs=1)"] * 2 + ["none"] * 2  # as loaded, and trained
    assert (table["ci_low"] <= table["value"]).all()
    assert (table["value"] <= table["ci_high"]).all()


def test_work_is_shared(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    """One model load, one scoring pass for all sparsities, allocations and recipes, each data set once."""
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    log = toy_log()
    assert log.count("model") == 1
    assert log.count("score") == 1
    assert log.count("data test") == 1
    assert log.count("data train") == 1
    assert sum(line.startswith("task") for line in log) == 10


def test_scores_outlive_the_run(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "a")
    run(TOY_SUITE.replace("0.9]", "0.9, 0.7]"), toy_registry, tmp_path / "b")
    assert toy_log().count("score") == 1


def test_the_sparsity_is_measured_not_believed(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run").drop_duplicates("cell")
    prunable = 8 * 9 + 2 * 128
    everything = prunable + 8 + 8 + 8 + 2
    for row in table.itertuples():
        zeros = round(row.sparsity * prunable)
        assert row.sparsity_achieved == pytest.approx(zeros / prunable, abs=1e-12)
        if row.recipe == "none":  # BatchNorm biases begin as zeros, which training moves
            assert row.sparsity_total == pytest.approx((zeros + 8) / everything, abs=1e-12)


def test_masks_are_kept_and_exact(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run").drop_duplicates("cell")
    for row in table.itertuples():
        path = tmp_path / "run" / "masks" / f"{row.cell}.safetensors"
        assert path.exists() == (row.sparsity > 0)
        if row.sparsity:
            masks = Masks.load(path)
            assert masks.total - masks.kept == round(row.sparsity * masks.total)


def test_samples_lie_beside_the_journal(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run")
    row = table[table["metric"] == "toy-accuracy"].iloc[0]
    values = read_arrays(tmp_path / "run" / "samples" / f"{row.cell}.toy-task.npz")["|toy-accuracy"]
    assert values.shape == (64,)
    assert float(np.mean(values)) == row["value"]


def test_two_fresh_runs_are_equal_to_the_bit(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = with_task("noise: true")
    for name in ("a", "b"):
        monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / f"cache-{name}"))
        torch.manual_seed(hash(name) % 1000)  # whatever the caller's random state is
        run(text, toy_registry, tmp_path / name)
    pd.testing.assert_frame_equal(
        measured(load_results(tmp_path / "a")), measured(load_results(tmp_path / "b")), check_exact=True
    )


def test_a_cell_alone_equals_the_cell_in_the_suite(toy_registry: Registry, tmp_path: Path) -> None:
    """Results do not depend on what ran before in the process, so shards and resumed runs agree."""
    text = with_task("noise: true")
    run(text, toy_registry, tmp_path / "all")
    run(text, toy_registry, tmp_path / "one", only=("recipe=finetune*", "sparsity=0.9"))
    everything, part = measured(load_results(tmp_path / "all")), measured(load_results(tmp_path / "one"))
    assert 0 < len(part) < len(everything)
    again = everything[everything["cell"].isin(part["cell"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, part, check_exact=True)


def test_the_callers_random_state_is_left_alone(toy_registry: Registry, tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    run(with_task("noise: true"), toy_registry, tmp_path / "run")
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])


def test_a_task_cannot_change_the_model_for_the_next(toy_registry: Registry, tmp_path: Path) -> None:
    both = TOY_SUITE.replace(
        "tasks:\n", "tasks:\n  - {use: toy-task, meddle: true, data: {use: toy-data, split: test}}\n"
    )
    run(both, toy_registry, tmp_path / "both")
    run(TOY_SUITE, toy_registry, tmp_path / "one")
    one, two = load_results(tmp_path / "one"), load_results(tmp_path / "both")
    honest = two[two["task"] == two["task"].iloc[-1]]
    assert list(honest["value"]) == list(one["value"])


def test_a_component_that_raises_costs_its_cells_only(toy_registry: Registry, tmp_path: Path) -> None:
    summary = run(with_task("fail_at: 0.9"), toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run")
    failed = table[table["status"] != "ok"]
    assert set(failed["sparsity"]) == {0.9}
    assert len(failed) == 4 == len(summary.not_ok)
    assert set(failed["status"]) == {"failed"}
    for error in failed["error"]:
        assert error.startswith("Traceback")
        assert "toybench_parts.py" in error
        assert error.endswith("ValueError: cannot stand 0.9 zeros")
    assert failed["value"].isna().all()
    assert len(table[table["status"] == "ok"]) == 6 * 2
    assert not summary.ok


def test_failures_are_tried_again_only_on_request(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    text = with_task("fail_at: 0.9")
    run(text, toy_registry, tmp_path / "run")
    ran = len(toy_log())
    again = run(text, toy_registry, tmp_path / "run")
    assert len(toy_log()) == ran
    assert (again.computed, again.resumed, len(again.not_ok)) == (0, 10, 4)
    retried = run(text, toy_registry, tmp_path / "run", retry_failed=True)
    assert (retried.computed, retried.resumed, len(retried.not_ok)) == (4, 6, 4)
    table = load_results(tmp_path / "run")
    assert set(table[table["status"] == "failed"]["attempts"]) == {2}
    assert len(table) == 6 * 2 + 4


@pytest.mark.parametrize(
    ("old", "new", "failed", "words"),
    [
        ("[toy-net]", "[{use: toy-net, broken: true}, toy-net]", 10, "RuntimeError: these weights are gone"),
        ("[toy-pruner, ", "[{use: toy-pruner, nan: true}, ", 4, "NaN or infinite"),
        ("metrics: [toy-margin]", "metrics: [gini, toy-margin]", 0, ""),
    ],
)
def test_failures_before_the_tasks(
    old: str, new: str, failed: int, words: str, toy_registry: Registry, tmp_path: Path, toy_log: Log
) -> None:
    assert old in TOY_SUITE
    summary = run(TOY_SUITE.replace(old, new), toy_registry, tmp_path / "run")
    assert len(summary.not_ok) == failed
    assert all(words in record.error for record in summary.not_ok)
    assert toy_log().count("model") == 1 + ("broken" in new)  # a load that fails is not repeated for each cell


def test_system_exit_in_a_component_is_its_failure(toy_registry: Registry, tmp_path: Path) -> None:
    summary = run(with_task("quit_at: 0.5"), toy_registry, tmp_path / "run")
    assert {record.sparsity for record in summary.not_ok} == {0.5}
    assert all("SystemExit: 3" in record.error for record in summary.not_ok)


def test_a_task_that_breaks_its_contract_says_which(toy_registry: Registry, tmp_path: Path) -> None:
    summary = run(with_task("twice: true"), toy_registry, tmp_path / "run")
    assert len(summary.not_ok) == 10
    assert "task 'toy-task' yielded variant '' twice" in summary.not_ok[0].error


def test_out_of_memory_halves_the_batch_and_says_so(toy_registry: Registry, tmp_path: Path) -> None:
    run(with_task("fits: 40"), toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run")
    assert set(table["batch_size"]) == {32}
    run(TOY_SUITE, toy_registry, tmp_path / "roomy")
    assert list(load_results(tmp_path / "roomy")["n"]) == list(table["n"])
    summary = run(with_task("fits: 0"), toy_registry, tmp_path / "none")
    assert {record.status for record in summary.not_ok} == {"oom"}


def test_halving_stops_at_one() -> None:
    tried: list[int] = []

    def work(batch_size: int) -> int:
        tried.append(batch_size)
        raise MemoryError

    with pytest.raises(MemoryError):
        with_smaller_batches(work, 10, lambda _: None)
    assert tried == [10, 5, 2, 1]


def test_undefined_values_are_counted(toy_registry: Registry, tmp_path: Path) -> None:
    """With every weight of the head pruned to the same score, no sample has a margin."""
    text = TOY_SUITE.replace("[0, 0.5, 0.9]", "[0, 0.999]")
    run(text, toy_registry, tmp_path / "run")
    table = load_results(tmp_path / "run", details=True)
    margin = table[table["metric"] == "toy-margin"]
    assert (margin["n"] + margin["undefined"] == 64).all()


def test_a_run_folder_has_what_it_should(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")}
    assert {"suite.yaml", "environment.json", "results.jsonl", "masks", "figures"} <= names
    assert "running.json" not in names
    assert not {"cache", "checkpoints", "weights"} & names
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["device"] == "cpu"
    assert environment["seeds"] == [0]
    assert {"name": "toy", "distribution": "toybench", "version": "1.0"} in environment["plugins"]


def test_the_resolved_suite_runs_as_the_same_suite(toy_registry: Registry, tmp_path: Path, toy_log: Log) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    ran = len(toy_log())
    summary = run((tmp_path / "run" / "suite.yaml").read_text(), toy_registry, tmp_path / "run")
    assert summary.resumed == 10
    assert len(toy_log()) == ran


def test_shards_add_up(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "whole")
    for i in (1, 2, 3):
        run(TOY_SUITE, toy_registry, tmp_path / f"part{i}", shard=(i, 3))
    parts = load_results([tmp_path / f"part{i}" for i in (1, 2, 3)])
    pd.testing.assert_frame_equal(measured(load_results(tmp_path / "whole")), measured(parts), check_exact=True)


def test_requests_that_are_wrong_write_nothing(toy_registry: Registry, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(MissingDataError, match="toy fetch"):
        run(TOY_SUITE.replace("split: test", "absent: true"), toy_registry, out)
    with pytest.raises(UsageError, match="unknown executor 'serail'|serail"):
        run(TOY_SUITE, toy_registry, out, executor="serail")
    with pytest.raises(UsageError, match="exactly one"):
        run(TOY_SUITE, toy_registry, out, workers=3)
    prepared = prepare(suite_from_text(TOY_SUITE, toy_registry), toy_registry, out, RunOptions(device="cuda:99"))
    with pytest.raises(UsageError, match="cuda:99"):
        execute(prepared, toy_registry)
    assert not out.exists()


def test_a_folder_of_another_suite_is_refused(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match="belongs to another suite .*sparsities"):
        run(TOY_SUITE.replace("0.9]", "0.8]"), toy_registry, tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_finished_run_is_summarised_from_its_journal(toy_registry: Registry, tmp_path: Path) -> None:
    run(with_task("fail_at: 0.9"), toy_registry, tmp_path / "run")
    suite = suite_from_text(with_task("fail_at: 0.9"), toy_registry)
    summary = finished_summary(prepare(suite, toy_registry, tmp_path / "run", RunOptions()))
    assert (summary.computed, summary.resumed, len(summary.not_ok)) == (0, 10, 4)
