"""Shards: parts of about the same cost that keep families together; merging: one folder from all of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from kit.runs import measured, run
from kit.toysuite import TOY_SUITE, Command

from pruningbench.errors import RunFolderError, UsageError
from pruningbench.harness.merging import merge
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.store.journal import Journal, read_journal
from pruningbench.suite.cells import Cell, trainings_of
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import load_suite, suite_from_text
from pruningbench.suite.shards import TRAINING, family_of, shard

ITERATIVE = """\
name: levels
models: [toy-net, {use: toy-net, width: 4}]
pruners: [toy-pruner, {use: toy-pruner, allocation: uniform}, {use: toy-pruner, shift: 1.0}]
sparsities: [0, 0.5, 0.75, 0.875]
recipes: [none, {use: iterative, epochs: 1, rate: 0.5}]
seeds: [0, 1]
tasks:
  - {use: toy-task, data: {use: toy-data, split: test}}
"""


def plan_of(text: str, registry: Registry) -> Plan:
    return make_plan(suite_from_text(text, registry), registry)


def cost(plan: Plan, cells: tuple[Cell, ...]) -> float:
    trainings = {(family_of(cell), key) for cell in cells for key in trainings_of(cell)}
    return TRAINING * len(trainings) + sum(len(plan.tasks_of(cell)) for cell in cells)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 68, 100])
def test_shards_are_a_partition_in_the_order_of_the_plan(count: int) -> None:
    registry = load_registry()
    plan = make_plan(load_suite("quickstart", registry), registry)
    parts = [shard(plan, i, count) for i in range(1, count + 1)]
    assert Counter(cell.key for part in parts for cell in part) == Counter(cell.key for cell in plan.cells)
    order = {cell.key: place for place, cell in enumerate(plan.cells)}
    for part in parts:
        places = [order[cell.key] for cell in part]
        assert places == sorted(places)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_families_stay_together_and_costs_are_balanced(count: int, toy_registry: Registry) -> None:
    plan = plan_of(ITERATIVE, toy_registry)
    parts = [shard(plan, i, count) for i in range(1, count + 1)]
    homes: dict[object, set[int]] = {}
    for number, part in enumerate(parts):
        for cell in part:
            homes.setdefault(family_of(cell), set()).add(number)
    assert len(homes) == 2 * 2 * (3 * 2 + 2)
    assert all(len(numbers) == 1 for numbers in homes.values())
    costs = [cost(plan, part) for part in parts]
    assert max(costs) <= 1.2 * min(costs)
    for part in parts:
        assert len({cell.model.label for cell in part}) == 2, "each part gets its share of a large model"


def test_a_family_that_is_all_there_is_is_divided(toy_registry: Registry) -> None:
    text = TOY_SUITE.replace("[0, 0.5, 0.9]", "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]")
    text = text.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[toy-pruner]")
    text = text.replace("[none, {use: finetune, epochs: 1}]", "[none]")
    plan = plan_of(text, toy_registry)
    assert [len(shard(plan, i, 4)) for i in (1, 2, 3, 4)] == [2, 2, 2, 2]


@pytest.mark.parametrize(("index", "count"), [(0, 2), (3, 2), (1, 0)])
def test_impossible_shards(index: int, count: int, toy_registry: Registry) -> None:
    with pytest.raises(UsageError, match="I/N with 1 <= I <= N"):
        shard(plan_of(TOY_SUITE, toy_registry), index, count)


def test_merged_shards_are_the_whole(pruningbench: Command, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(TOY_SUITE + "keep: weights\n")
    pruningbench("run", "suite.yaml", "--out", "whole", check=0)
    parts = [f"part{i}" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        pruningbench("run", "suite.yaml", "--shard", f"{i}/3", "--out", part, check=0)
    assert pruningbench("merge", *parts, "--out", "merged", check=0).stdout == "merged: 10 task runs\n"
    one, two = (measured(load_results(tmp_path / name)) for name in ("whole", "merged"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    for room in ("masks", "weights", "samples"):
        names = [{file.name for file in (tmp_path / name / room).iterdir()} for name in ("whole", "merged")]
        assert names[0] == names[1]
        assert names[0]
    environment = json.loads((tmp_path / "merged" / "environment.json").read_text())
    assert [one["folder"] for one in environment["merged"]] == ["part2", "part3"]
    again = pruningbench("run", "suite.yaml", "--out", "merged", check=0)
    assert "nothing to compute, all was done before" in again.stdout


def test_the_better_attempt_and_the_first_value_stay(toy_registry: Registry, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(TOY_SUITE, toy_registry, tmp_path / name)

    def rewrite(name: str, number: int, **values: object) -> None:
        path = tmp_path / name / "results.jsonl"
        lines = path.read_text().splitlines()
        lines[number] = json.dumps({**json.loads(lines[number]), **values})
        path.write_text("\n".join(lines) + "\n")

    rewrite("a", 2, status="failed", error="out of luck")
    rewrite("b", 6, value=0.123)
    done = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert (done.task_runs, done.repeated, done.differing) == (10, 10, 1)
    table = load_results(tmp_path / "c", details=True)
    assert set(table["status"]) == {"ok"}
    assert 0.123 not in set(table["value"])
    assert len(table) == 20


def test_what_cannot_be_merged_is_refused(toy_registry: Registry, tmp_path: Path) -> None:
    for name, text in (("a", TOY_SUITE), ("b", TOY_SUITE.replace("0.9]", "0.7]"))):
        run(text, toy_registry, tmp_path / name, only=("pruner=dense", "recipe=none"))
    with pytest.raises(RunFolderError, match=r"b: belongs to another suite than .*a \(`sparsities` here lacks 0\.7"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    with pytest.raises(UsageError, match="two different run folders"):
        merge([tmp_path / "a", tmp_path / "a"], tmp_path / "c")
    with pytest.raises(UsageError, match="b: exists; choose another --out"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "b")
    with pytest.raises(RunFolderError, match="is not a run folder"):
        merge([tmp_path / "a", tmp_path], tmp_path / "c")
    journal = tmp_path / "b" / "results.jsonl"
    journal.write_bytes(b"garbage\n" + journal.read_bytes())
    with pytest.raises(RunFolderError, match=r"results\.jsonl:1: damaged line"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_merged_journal_is_written_as_any_other(toy_registry: Registry, tmp_path: Path) -> None:
    for i in (1, 2):
        run(TOY_SUITE, toy_registry, tmp_path / f"p{i}", shard=(i, 2))
    merge([tmp_path / "p1", tmp_path / "p2"], tmp_path / "c")
    path = tmp_path / "c" / "results.jsonl"
    records, good = read_journal(path)
    assert good == path.stat().st_size
    journal = Journal(tmp_path / "copy.jsonl")
    for start in range(0, len(records), 2):
        journal.append(records[start : start + 2])
    journal.close()
    assert (tmp_path / "copy.jsonl").read_bytes() == path.read_bytes()
