"""The ability that a task measures: stated by tasks, stored in records, looked up for results that lack it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kit.boards import failure, record, write_run
from kit.runs import run
from kit.toysuite import TOY_SUITE

from pruningbench.contract import ACCURACY, Context, Outputs, Task, VisionModel
from pruningbench.contract.component import BUILT_IN
from pruningbench.contract.task import dimension_of
from pruningbench.leaderboard import build
from pruningbench.leaderboard.dimensions import dimensions_of
from pruningbench.leaderboard.results import load_results
from pruningbench.leaderboard.sweetspots import accuracy_columns
from pruningbench.plugins import Plugin, Registry, load_registry
from pruningbench.store.journal import read_journal
from pruningbench.testing import check, findings

DIMENSIONS = {
    "calibration": "calibration", "classification": ACCURACY, "clickme": "alignment", "concepts": "interpretability",
    "corruption-robustness": "robustness", "dense-similarity": "similarity", "discovery": "discovery",
    "efficiency": "efficiency", "few-shot": "transfer", "fine-tune-transfer": "transfer",
    "shrunk-efficiency": "efficiency",
    "interpretability": "interpretability", "model-vs-human": "alignment", "nights": "alignment",
    "odd-one-out": "alignment", "ridge-zero-shot": "transfer", "rsa": "alignment", "soft-labels": "alignment",
    "transfer": "transfer",
}  # fmt: skip


def test_every_built_in_task_states_its_dimension() -> None:
    entries = [entry for entry in load_registry().registrations("task") if entry.plugin.distribution == BUILT_IN]
    assert {entry.name: entry.load().dimension for entry in entries} == DIMENSIONS


def test_a_run_stores_it_and_a_task_without_one_is_its_own(toy_registry: Registry, tmp_path: Path) -> None:
    run(
        TOY_SUITE.replace("0.5, 0.9]", "0.5]").replace("none, {use: finetune, epochs: 1}", "none"),
        toy_registry,
        tmp_path / "run",
    )
    records, _ = read_journal(tmp_path / "run" / "results.jsonl")
    assert {one.dimension for one in records} == {"toy-task"} == set(load_results(tmp_path / "run")["dimension"])
    task = toy_registry.entry("task", "toy-task").load()
    assert dimension_of(task, "someone/toy-task") == "toy-task"


def test_earlier_results_are_looked_up_by_the_name_of_the_task(tmp_path: Path) -> None:
    records = [
        record(task="classification(data=digits)"), record(task="sorting"),
        record(task="stated", dimension="patience"), failure(task="stated", pruner="b"), record(task="transfer", dimension="own"),
    ]  # fmt: skip
    frame = load_results(write_run(tmp_path / "run", records))
    found = dict(zip(zip(frame["task"], frame["status"], strict=True), frame["dimension"], strict=True))
    assert found == {
        ("classification(data=digits)", "ok"): ACCURACY, ("sorting", "ok"): "sorting", ("stated", "ok"): "patience",
        ("stated", "failed"): "patience", ("transfer", "ok"): "own",
    }  # fmt: skip
    for table in (frame, frame.drop(columns="dimension")):
        (board,) = build(table)
        dimensions = {column.task: column.dimension for column in board.columns}
        assert dimensions["classification(data=digits)"] == ACCURACY
        assert dimensions["transfer"] == ("own" if "dimension" in table else "transfer")


def test_an_accuracy_task_of_any_plugin_counts(tmp_path: Path) -> None:
    records = [record(task="their-task", metric=m, dimension=ACCURACY) for m in ("hits", "misses")]
    (board,) = build(load_results(write_run(tmp_path / "run", records)))
    assert [column.metric for column in accuracy_columns(board)] == ["hits"]


@pytest.mark.parametrize(
    ("tested", "main"),
    [({}, {("", "first"), ("v", "first")}), ({"second"}, {("", "second"), ("v", "second")})],
)
def test_main_metric_is_the_tested_one_or_the_first(
    tmp_path: Path, tested: set[str], main: set[tuple[str, str]]
) -> None:
    records = [
        record(metric=m, variant=v, chance_p=1e-9 if m in tested and not v else float("nan"))
        for v in ("", "v") for m in ("first", "second")
    ]  # fmt: skip
    (board,) = build(load_results(write_run(tmp_path / "run", records)))
    assert {(column.variant, column.metric) for column in board.columns if column.main} == main


def test_labels_of_unknown_tasks_stay() -> None:
    assert dimensions_of([("none(of=these)", ""), ("odd", float("nan"))]) == {
        "none(of=these)": "none(of=these)",
        "odd": "odd",
    }


@dataclass(frozen=True)
class Shouting(Task):
    """Measure nothing."""

    dimension = "Not A Name"

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Outputs]]:
        yield from ()


def test_a_dimension_is_a_name() -> None:
    check("task", "classification", data="digits")
    registry = Registry()
    registry.add("task", "shouting", Shouting, Plugin("mine", "1", "mine"))
    said = {finding.check: finding.what for finding in findings("task", "shouting", registry=registry)}
    assert said == {
        "dimension": "its dimension 'Not A Name' is not a name in kebab-case",
        "metrics": "it names no metric",
    }
