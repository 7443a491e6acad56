"""Budgets of time: what is estimated, what is started, and in which order."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from click import BadParameter
from hypothesis import given
from hypothesis import strategies as st
from kit.runs import run, said
from kit.toysuite import TOY_SUITE, Command

from pruningbench.cli.common import parse_time
from pruningbench.errors import UsageError
from pruningbench.harness import pacing
from pruningbench.harness.budget import Budget, _depths, most_informative_first
from pruningbench.harness.calibrating import _line, representatives
from pruningbench.harness.events import CellJob
from pruningbench.harness.forecast import LEAST_PATIENCE, Forecast, kinds_of
from pruningbench.plugins import Registry
from pruningbench.store.attempts import attempts_of
from pruningbench.store.journal import read_journal
from pruningbench.store.records import Record
from pruningbench.suite.plan import Plan, make_plan
from pruningbench.suite.schema import suite_from_text

SLOW = """\
name: slow
models: [toy-net]
pruners: [toy-pruner, {use: toy-pruner, allocation: uniform}]
sparsities: [0, .1, .3, .5, .7, .9]
tasks:
  - {use: toy-fault, data: {use: toy-data, split: test}, seconds: 1.5}
"""


def record(cell: str, *, model: str = "m", pruner: str = "p", recipe: str = "r", task: str = "t", seconds: float = 1.0,
           prepare: float = 0.0, part: int = 1, status: str = "ok") -> Record:  # fmt: skip
    return Record("s", cell, model, pruner, recipe, 0.5, 0, task, seconds=seconds, prepare_seconds=prepare, part=part,
                  status=status)  # type: ignore[arg-type]  # fmt: skip


def plan_of(text: str, registry: Registry) -> Plan:
    return make_plan(suite_from_text(text, registry), registry)


def jobs_of(plan: Plan) -> list[CellJob]:
    return [CellJob(cell, plan.tasks_of(cell)) for cell in plan.cells]


def test_times_are_those_of_the_most_alike(toy_registry: Registry) -> None:
    plan = plan_of(TOY_SUITE, toy_registry)
    dense, pruned = plan.cells[0], next(c for c in plan.cells if c.pruner is not None and not c.trained)
    forecast, task = Forecast(), plan.tasks[0].label
    assert forecast.task(dense, task).basis == "unknown"
    forecast.learn(attempts_of([record("1", model="other", task=task, seconds=8.0, prepare=5.0)]))
    assert (forecast.task(dense, task).seconds, forecast.task(dense, task).basis) == (8.0, "analogy")
    assert forecast.preparing(dense).basis == "unknown", "of another recipe"
    alike = {"model": "toy-net", "pruner": pruned.pruner_label, "recipe": "none", "task": task}
    measured = [record("2", **alike, seconds=2.0, prepare=3.0), record("2", **alike, seconds=2.0, part=2),
                record("3", **alike, seconds=4.0, prepare=5.0), record("4", **alike, seconds=99.0, status="failed")]  # type: ignore[arg-type]  # fmt: skip
    forecast.learn(attempts_of(measured))
    span = forecast.task(dense, task)
    assert (span.seconds, span.basis, span.deviation) == (3.0, "measured", math.sqrt(2))
    assert (forecast.preparing(pruned).seconds, forecast.preparing(pruned).basis) == (4.0, "measured")
    assert forecast.preparing(dense).basis == "analogy", "of the same recipe by another pruner"
    assert forecast.of(CellJob(pruned, plan.tasks_of(pruned))) == 7.0
    outlook = forecast.outlook([(pruned, [task]), (pruned, [task])])
    assert (outlook.seconds, outlook.measured, outlook.analogy, outlook.unknown, outlook.cells) == (14.0, 4, 0, 0, 3)
    error = 2 * math.hypot(2 * math.sqrt(2), 2 * math.sqrt(2))
    assert (outlook.low, outlook.high) == (pytest.approx(14 - error), pytest.approx(14 + error))


def test_only_work_that_has_been_seen_is_taken_to_hang(toy_registry: Registry, tmp_path: Path) -> None:
    jobs = jobs_of(plan_of(TOY_SUITE, toy_registry))
    kinds, forecast = kinds_of(jobs), Forecast()
    assert forecast.patience(kinds) is None
    run(TOY_SUITE, toy_registry, tmp_path / "run")
    records = read_journal(tmp_path / "run" / "results.jsonl")[0]
    forecast.learn(attempts_of(records))
    assert forecast.patience(kinds) == LEAST_PATIENCE, "20 times less than a second would be too strict"
    forecast.learn(attempts_of([replace(records[0], cell="x", seconds=100.0)]))
    assert forecast.patience(kinds) == 2000.0
    assert forecast.patience({*kinds, ("task", "new", "t")}) is None


def test_a_job_is_admitted_if_it_is_likely_to_end(toy_registry: Registry) -> None:
    job = jobs_of(plan_of(TOY_SUITE, toy_registry))[0]
    now, forecast = [0.0], Forecast()
    budget = Budget(10.0, forecast, lambda: now[0])
    assert budget.admits(job), "of which nothing is known"
    forecast.learn(attempts_of([record("1", model="toy-net", task=job.tasks[0].label, seconds=6.0)]))
    assert budget.admits(job)
    now[0] = 4.5
    assert not budget.admits(job)
    assert budget.refused == 1
    now[0] = 11.0
    assert not Budget(10.0, Forecast(), iter([0.0, 10.0]).__next__).admits(job), "no time is left, whatever it takes"


@given(st.integers(0, 200))
def test_points_are_reached_by_halving(count: int) -> None:
    depths = _depths(count)
    assert len(depths) == count
    for depth in range(max(depths, default=0) + 1):
        reached = [i for i in range(count) if depths[i] <= depth]
        gaps = [b - a for a, b in zip([-1, *reached], [*reached, count], strict=True)]
        assert max(gaps) <= math.ceil((count + 1) / 2 ** (depth + 1)) + 1


def test_what_tells_most_comes_first(toy_registry: Registry) -> None:
    text = SLOW.replace("tasks:", "seeds: [0, 1]\ntasks:")
    jobs = jobs_of(plan_of(text, toy_registry))
    ordered = most_informative_first(jobs)
    assert sorted(map(id, jobs)) == sorted(map(id, ordered))
    cells = [(job.cell.seed, job.cell.sparsity, job.cell.pruner_label) for job in ordered]
    assert [c[:2] for c in cells[:2]] == [(0, 0.0), (1, 0.0)]
    of_first_seed = [c for c in cells[2:] if c[0] == 0]
    assert cells[2:] == [*of_first_seed, *(c for c in cells[2:] if c[0] == 1)]
    assert [c[1] for c in of_first_seed] == [0.5, 0.5, 0.3, 0.3, 0.9, 0.9, 0.1, 0.1, 0.7, 0.7]
    assert len({c[2] for c in of_first_seed[:2]}) == 2, "both pruners at each sparsity"


@pytest.mark.parametrize("options", [{}, {"executor": "processes", "workers": 2}], ids=["serial", "processes"])
def test_a_run_stops_starting_and_goes_on_later(
    options: dict[str, object], toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = SLOW.replace("seconds: 1.5", "seconds: 0.1")
    run(text, toy_registry, tmp_path / "run", only=("pruner=dense",), **options)
    looks = count()
    # each look at the clock is 100 s later: two jobs fit into 250 s
    monkeypatch.setattr(
        pacing, "Budget", lambda seconds, forecast: Budget(seconds, forecast, lambda: 100.0 * next(looks))
    )
    outcome = said(text, toy_registry, tmp_path / "run", budget=250.0, **options)
    assert outcome.summary.computed == 2
    assert outcome.summary.pending == 8
    assert "the budget is used up: 8 cells are left" in outcome.text
    assert not outcome.summary.ok
    seen = {r.sparsity for r in read_journal(tmp_path / "run" / "results.jsonl")[0]}
    assert seen == {0.0, 0.5}, "the middle of each curve comes first"
    monkeypatch.undo()
    assert run(text, toy_registry, tmp_path / "run", **options).ok


def test_a_budget_that_nobody_observes_is_refused(toy_registry: Registry, tmp_path: Path) -> None:
    from pruningbench.harness.executors import SerialExecutor

    for budget in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"--budget .* must be a time > 0"):
            run(SLOW, toy_registry, tmp_path / "run", budget=budget)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SerialExecutor, "observes_budget", False)
        with pytest.raises(UsageError, match="executor 'serial' cannot observe a budget"):
            run(SLOW, toy_registry, tmp_path / "run", budget=60.0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90min", 5400), ("1h30m", 5400), ("1.5 h", 5400), ("45s", 45), ("1H 1M 1S", 3661), ("2", None),
     ("", None), ("h", None), ("0s", None), ("-2h", None), ("1.2.3h", None), ("2 days", None)],
)  # fmt: skip
def test_times_have_units(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(BadParameter, match="must be a time such as 2h"):
            parse_time(None, None, text)  # type: ignore[arg-type]
    else:
        assert parse_time(None, None, text) == seconds  # type: ignore[arg-type]


def test_a_line_through_two_times() -> None:
    assert _line(2.0, 4.0, 16, 48, 80) == 6.0
    assert _line(2.0, 1.9, 16, 48, 80) == 2.0, "noise never makes more samples quicker"
    assert _line(2.0, None, 16, 48, 80) == 10.0
    assert _line(2.0, 4.0, 16, 16, 16) == 2.0, "there are no more samples"
    assert _line(2.0, 4.0, 0, 0, 0) == 2.0, "it reads none"


def test_each_kind_of_cell_is_represented_once(toy_registry: Registry) -> None:
    plan = plan_of(TOY_SUITE, toy_registry)
    kinds = {(c.model.label, c.pruner_label, c.recipe.label) for c in plan.cells}
    chosen = representatives(plan, kinds)
    assert {c.pruner_label for c in chosen} == {c.pruner_label for c in plan.cells}
    assert {c.recipe.label for c in chosen} == {c.recipe.label for c in plan.cells}
    assert len(chosen) == 5, "two dense ones, one of each pruner, and one that is trained"


def test_plan_says_how_long_it_takes(pruningbench: Command, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(TOY_SUITE)
    calibrated = json.loads(pruningbench("plan", "suite.yaml", "--out", "run", "--calibrate", "--json", check=0).stdout)
    assert calibrated["time"]["cells"] == 5
    assert calibrated["time"]["unknown"] == 0
    assert 0 <= calibrated["time"]["low"] < calibrated["time"]["seconds"] < calibrated["time"]["high"]
    assert not (tmp_path / "run").exists(), "calibrating writes nothing"
    before = pruningbench("plan", "suite.yaml", "--out", "run", check=0).stdout
    assert "time left     unknown: nothing has been measured in this folder yet; --calibrate" in before
    pruningbench("run", "suite.yaml", "--out", "run", "--device", "cpu", "--only", "recipe=none", check=0)
    after = pruningbench("plan", "suite.yaml", "--out", "run", check=0).stdout
    assert "time left     about" in after
    assert "from 5 cells" in after
