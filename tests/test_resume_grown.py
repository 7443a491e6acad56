"""A run folder whose suite grows: what is finished stays finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from kit.changing import Changing, changing
from kit.runs import measured, run
from kit.toysuite import TOY_SUITE, Command

from pruningbench.contract import Outputs
from pruningbench.errors import RunFolderError
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry
from pruningbench.store.samples import read_arrays

__all__ = ["changing"]

Log = Callable[[], list[str]]
TASK = "  - {use: toy-task, data: {use: toy-data, split: test}}\n"

GROWTHS = [
    ("sparsities: [0, 0.5, 0.9]", "sparsities: [0, 0.3, 0.5, 0.9]", 4),
    ("[toy-pruner, ", "[{use: toy-pruner, shift: 1.0}, toy-pruner, ", 4),
    ("sparsities:", "seeds: [0, 1]\nsparsities:", 10),
    ("recipes: [none, ", "recipes: [none, {use: finetune, epochs: 2}, ", 5),
    ("models: [toy-net]", "models: [{use: toy-net, width: 4}, toy-net]", 10),
    (TASK, TASK + "  - {use: toy-task, data: {use: toy-data, split: train}}\n", 10),
    (TASK, "  - {use: toy-task, noise: true, data: {use: toy-data, split: test}}\n" + TASK, 10),
]


@pytest.mark.parametrize(("old", "new", "more"), GROWTHS, ids=[new[:24].strip() for _, new, _ in GROWTHS])
def test_a_suite_that_grew_goes_on_in_its_folder(
    old: str, new: str, more: int, toy_registry: Registry, tmp_path: Path, toy_log: Log
) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    before = load_results(tmp_path / "run")
    tasks = sum(line.startswith("task") for line in toy_log())
    grown = TOY_SUITE.replace(old, new)
    assert grown != TOY_SUITE
    summary = run(grown, toy_registry, tmp_path / "run")
    assert (summary.computed, summary.resumed, summary.ok) == (more, 10, True)
    assert sum(line.startswith("task") for line in toy_log()) == tasks + more
    table = load_results(tmp_path / "run")
    pd.testing.assert_frame_equal(table.head(len(before)), before, check_exact=True)
    assert len(table) == len(before) + 2 * more
    assert not table.duplicated(["cell", "task", "metric"]).any()
    again = run(grown, toy_registry, tmp_path / "run")
    assert (again.computed, again.resumed) == (0, 10 + more)
    run(grown, toy_registry, tmp_path / "fresh")
    fresh = load_results(tmp_path / "fresh")
    assert sorted(table["value"]) == sorted(fresh["value"])
    stored = yaml.safe_load((tmp_path / "run" / "suite.yaml").read_text())
    assert stored == yaml.safe_load((tmp_path / "fresh" / "suite.yaml").read_text())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[0, 0.5, 0.9]", "[0, 0.5]", "`sparsities` here lacks 0.9, a smaller suite; to run a part of it use --only"),
        ("[0, 0.5, 0.9]", "[0, 0.5, 0.8]", "`sparsities` here lacks 0.9, and has 0.8 instead"),
        ("metrics: [toy-margin]", "metrics: []", "`metrics` here lacks {"),
        (TASK, TASK.replace("split: test", "split: train"), "`tasks` here lacks {"),
        ("name: toy", "name: boy", '`name` there: "toy", here: "boy"'),
        ("metrics:", "scope: {head: false}\nmetrics:", "`scope` there: "),
        ("metrics:", "data: toy-data\nmetrics:", "`data` there: null, here: {"),
        ("metrics:", "limit: 8\nmetrics:", "`limit` there: null, here: 8"),
    ],
)
def test_a_suite_that_differs_says_how(old: str, new: str, words: str, toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match="belongs to another suite") as caught:
        run(TOY_SUITE.replace(old, new), toy_registry, tmp_path / "run")
    assert words in str(caught.value)
    assert "choose another --out" in str(caught.value)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_what_lost_its_data_says_what_is_there(toy_registry: Registry, tmp_path: Path) -> None:
    run(TOY_SUITE + "data: toy-data\n", toy_registry, tmp_path / "run")
    with pytest.raises(RunFolderError, match="`data` there: .*, not here"):
        run(TOY_SUITE, toy_registry, tmp_path / "run")


def test_a_metric_that_is_added_is_measured_alone(changing: Changing, tmp_path: Path, toy_log: Log) -> None:
    """The task runs once more for it; nothing is scored or trained, and other metrics keep their values."""
    changing.run(tmp_path / "run")
    before, lines = load_results(tmp_path / "run"), len(toy_log())
    grown = changing.text + "metrics: [toy-margin]\n"
    again = changing.run(tmp_path / "run", grown)
    assert (again.summary.computed, again.summary.ok, again.changes) == (4, True, [])
    assert not {"scores", "right", "wrong"} & set(toy_log()[lines:])
    table = load_results(tmp_path / "run")
    assert set(table["metric"]) == {"right", "wrong", "toy-margin"}
    changing.run(tmp_path / "fresh", grown)
    keys = ["cell", "metric"]
    columns = [*keys, "value", "ci_low", "ci_high", "n"]
    one, two = (
        load_results(tmp_path / name)[columns].sort_values(keys, ignore_index=True) for name in ("run", "fresh")
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    kept = table[table["metric"] != "toy-margin"].drop(columns="attempts").reset_index(drop=True)
    order = ["cell", "metric"]
    pd.testing.assert_frame_equal(
        kept.sort_values(order, ignore_index=True),
        before.drop(columns="attempts").sort_values(order, ignore_index=True),
        check_exact=True,
    )
    for row in table.itertuples():
        arrays = read_arrays(tmp_path / "run" / "samples" / f"{row.cell}.look.npz")
        assert {"|right", "|wrong", "|toy-margin"} <= set(arrays)
    assert changing.run(tmp_path / "run", grown).summary.computed == 0


def test_a_metric_that_applies_to_nothing_is_asked_once(changing: Changing, tmp_path: Path, toy_log: Log) -> None:
    changing.run(tmp_path / "run")
    grown = changing.text + "metrics: [never]\n"
    assert changing.run(tmp_path / "run", grown).summary.computed == 4
    ran = toy_log()
    assert changing.run(tmp_path / "run", grown).summary.computed == 0
    assert toy_log() == ran
    table = load_results(tmp_path / "run")
    assert set(table["metric"]) == {"right", "wrong"}
    assert set(table["inapplicable"]) == {"never"}  # as if it had been asked at once
    changing.run(tmp_path / "run", changing.text + "metrics: [never, toy-margin]\n")
    table = load_results(tmp_path / "run")
    assert set(table["metric"]) == {"right", "wrong", "toy-margin"}
    assert set(table["inapplicable"]) == {"never"}


def test_a_metric_that_is_added_keeps_the_keys_of_samples(
    changing: Changing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toybench_parts import ToyTask

    real = ToyTask.run

    def with_keys(self: ToyTask, model: Any, context: Any) -> Iterator[tuple[str, Outputs]]:
        for variant, outputs in real(self, model, context):
            yield variant, replace(outputs, keys=tuple(f"sample {i}" for i in range(outputs.count or 0)))

    monkeypatch.setattr(ToyTask, "run", with_keys)
    changing.run(tmp_path / "run")
    grown = changing.text + "metrics: [toy-margin]\n"
    assert changing.run(tmp_path / "run", grown).summary.ok
    changing.run(tmp_path / "fresh", grown)
    for file in (tmp_path / "fresh" / "samples").iterdir():
        arrays, fresh = read_arrays(tmp_path / "run" / "samples" / file.name), read_arrays(file)
        assert arrays.keys() == fresh.keys() >= {"keys of ", "|right", "|toy-margin"}
        assert all(np.array_equal(arrays[name], fresh[name]) for name in fresh)


def test_a_metric_that_fails_leaves_the_others(changing: Changing, tmp_path: Path, toy_log: Log) -> None:
    changing.run(tmp_path / "run")
    grown = changing.text + "metrics: [{use: toy-margin, short: true}]\n"
    failed = changing.run(tmp_path / "run", grown)
    assert [record.status for record in failed.summary.not_ok] == ["failed"] * 4
    table = load_results(tmp_path / "run")
    assert sorted(table["status"]) == ["failed"] * 4 + ["ok"] * 8
    ran = len(toy_log())
    assert changing.run(tmp_path / "run", grown).summary.computed == 0  # it is tried again only when asked for
    assert len(toy_log()) == ran
    assert changing.run(tmp_path / "run", grown, retry_failed=True).summary.computed == 4
    assert [toy_log()[ran:].count(name) for name in ("scores", "right", "wrong")] == [0, 4, 4]  # the whole task again
    assert sorted(load_results(tmp_path / "run")["status"]) == ["failed"] * 4 + ["ok"] * 8


def test_shards_of_a_grown_suite_go_on(toy_registry: Registry, tmp_path: Path) -> None:
    grown = TOY_SUITE.replace("0.9]", "0.9, 0.95]")
    for text in (TOY_SUITE, grown):
        for i in (1, 2):
            run(text, toy_registry, tmp_path / f"part{i}", shard=(i, 2))
    run(grown, toy_registry, tmp_path / "whole")
    parts = load_results([tmp_path / "part1", tmp_path / "part2"]).drop_duplicates(["cell", "metric"])
    pd.testing.assert_frame_equal(measured(load_results(tmp_path / "whole")), measured(parts), check_exact=True)


def test_plan_counts_what_a_grown_suite_lacks(
    pruningbench: Command, suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    pruningbench("run", suite_file(), check=0)
    grown = suite_file(TOY_SUITE.replace("0.9]", "0.9, 0.95]"), "grown.yaml")
    assert "14 (1 tasks on each cell), 4 still to do in runs/toy" in pruningbench("plan", grown, check=0).stdout
    done = pruningbench("run", grown, check=0)
    assert "14 cells: 4 task runs computed now, 10 done before" in done.stdout
