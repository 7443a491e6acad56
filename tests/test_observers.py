"""``--observer`` passes the values of a run on to TensorBoard, Weights & Biases and MLflow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kit.toysuite import TOY_SUITE, Command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import pruningbench as pb
from pruningbench.errors import PruningBenchError, UsageError
from pruningbench.harness.run import RunOptions, execute, prepare
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Plugin, Registry
from pruningbench.suite.schema import suite_from_text


def observed(registry: Registry, folder: Path, *names: str, suite: str = TOY_SUITE) -> pd.DataFrame:
    """Run a suite with observers, and return the measurements that have a value."""
    options = RunOptions(observers=names)
    execute(prepare(suite_from_text(suite, registry), registry, folder, options), registry)
    table = load_results(folder)
    return table[(table["status"] == "ok") & table["value"].notna()]


def test_tensorboard_has_every_value_at_its_sparsity(toy_registry: Registry, tmp_path: Path) -> None:
    table = observed(toy_registry, tmp_path / "run", "tensorboard")
    found = set()
    for line in (tmp_path / "run" / "tensorboard").iterdir():
        events = EventAccumulator(str(line)).Reload()
        for tag in events.Tags()["scalars"]:
            found |= {(line.name, tag, event.step, event.value) for event in events.Scalars(tag)}
    expected = {
        (
            f"{row.model} {row.pruner} {row.recipe} seed {row.seed}",
            "/".join(filter(None, (row.task, row.variant, row.metric))),
            round(row.sparsity * 1000),
            float(np.float32(row.value)),
        )
        for row in rows_of(table)
    }
    assert found == expected and len(found) > 3


def rows_of(table: pd.DataFrame) -> list[Any]:
    """The measurements as objects."""
    return [SimpleNamespace(**{str(key): value for key, value in row.items()}) for row in table.to_dict("records")]


class Wandb(ModuleType):
    """The part of Weights & Biases that is used; other arguments than its own fail."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.rows: list[dict[str, Any]] = []
        self.ended: list[int] = []
        self.settings: dict[str, Any] = {}

    def init(self, *, project: str | None, name: str, dir: str, config: dict[str, Any]) -> Wandb:
        self.settings = {"project": project, "name": name, "dir": dir, "config": config}
        return self

    def define_metric(self, name: str, *, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "sparsity")

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self, *, exit_code: int) -> None:
        self.ended.append(exit_code)


def test_weights_and_biases_gets_a_row_for_each_cell(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    table = observed(toy_registry, tmp_path / "run", "wandb")
    assert fake.settings["project"] == "pruningbench" and fake.settings["name"] == "run" and fake.ended == [0]
    rows = {(row["model"], row["pruner"], row["recipe"], row["sparsity"], row["seed"]): row for row in fake.rows}
    assert len(rows) == len(fake.rows) == table["cell"].nunique()
    for row in rows_of(table):
        of_cell = rows[row.model, row.pruner, row.recipe, row.sparsity, row.seed]
        assert of_cell["/".join(filter(None, (row.task, row.variant, row.metric)))] == row.value


class Mlflow(ModuleType):
    """The part of MLflow that is used."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, SimpleNamespace] = {}
        self.MlflowClient = lambda: self

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        assert name not in self.experiments
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, experiment_id: str, *, run_name: str, tags: dict[str, str]) -> SimpleNamespace:
        assert experiment_id in self.experiments.values()
        run_id = str(len(self.runs))
        self.runs[run_id] = SimpleNamespace(name=run_name, tags=tags, params={}, metrics={}, status="RUNNING")
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_param(self, run_id: str, key: str, value: Any) -> None:
        self.runs[run_id].params[key] = value

    def log_metric(self, run_id: str, key: str, value: float) -> None:
        assert all(c.isalnum() or c in "_-. /" for c in key)
        self.runs[run_id].metrics[key] = value

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status


def test_mlflow_gets_a_run_for_each_cell_and_one_experiment_for_each_suite(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    table = observed(toy_registry, tmp_path / "run", "mlflow", "mlflow")
    assert {run.status for run in fake.runs.values()} == {"FINISHED"}
    by_cell = {run.tags["pruningbench.cell"]: run for run in fake.runs.values()}
    assert len(by_cell) == len(fake.runs) == table["cell"].nunique()
    for row in rows_of(table):
        run = by_cell[row.cell]
        assert run.params["sparsity"] == row.sparsity and run.params["pruner"] == row.pruner
        assert row.value in run.metrics.values()
    observed(toy_registry, tmp_path / "again", "mlflow")
    assert len(fake.experiments) == 1


def test_a_missing_library_is_one_line_and_nothing_is_written(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"^--observer wandb needs wandb: pip install 'pruningbench\[wandb\]'$"):
        observed(toy_registry, tmp_path / "run", "wandb")
    assert not (tmp_path / "run").exists()


class Failing:
    """An observer that fails when it is told something."""

    @pb.hookimpl
    def pruningbench_task_done(self) -> None:
        raise RuntimeError("the server is gone")


class Impossible:
    """An observer that cannot be made."""

    def __init__(self) -> None:
        raise OSError("no route")


def test_an_observer_that_fails_harms_no_run(toy_registry: Registry, tmp_path: Path) -> None:
    toy_registry.add("observer", "failing", Failing, Plugin("bad", "badbench", "1"))
    toy_registry.add("observer", "impossible", Impossible, Plugin("bad", "badbench", "1"))
    warned: list[str] = []

    class Listener:
        @pb.hookimpl
        def pruningbench_warning(self, message: str) -> None:
            warned.append(message)

    prepared = prepare(
        suite_from_text(TOY_SUITE, toy_registry), toy_registry, tmp_path / "run", RunOptions(observers=("failing",))
    )
    assert execute(prepared, toy_registry, Listener()).ok
    assert [m for m in warned if "observer" in m] == [
        "observer 'badbench/failing' failed and is not called again in this run: "
        "pruningbench_task_done: RuntimeError: the server is gone"
    ]
    with pytest.raises(PruningBenchError, match="^observer 'impossible' cannot be made: OSError: no route$"):
        observed(toy_registry, tmp_path / "other", "impossible")
    assert not toy_registry.door.manager.has_plugin("badbench/failing"), "dismissed after the run"


def test_the_command_refuses_unknown_observers_and_lists_the_known(
    pruningbench: Command, suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    suite = suite_file(TOY_SUITE)
    said = pruningbench("run", suite, "--observer", "tensorbord", "--out", tmp_path / "run", check=2).stderr
    assert "unknown observer 'tensorbord'; did you mean 'tensorboard'?" in said
    assert not (tmp_path / "run").exists()
    assert "wandb" in pruningbench("list", "observers", check=0).stdout
    done = pruningbench("run", suite, "--observer", "tensorboard", "--out", tmp_path / "run", check=0)
    assert any((tmp_path / "run" / "tensorboard").iterdir()) and "Traceback" not in done.stderr
