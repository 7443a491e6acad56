"""A third party's plugin that adds one of everything through the door, and observes all that can be observed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pruningbench.contract import CellInfo, Register, RegisterFile, RegisterFunction, RunInfo, hookimpl

pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_models(register: Register) -> None:
    register("door-net", "doorbench_parts:DoorModel")


@hookimpl
def pruningbench_register_datasets(register: Register) -> None:
    register("door-data", "doorbench_parts:DoorData")


@hookimpl
def pruningbench_register_pruners(register: Register) -> None:
    register("door-largest", "doorbench_parts:Largest")


@hookimpl
def pruningbench_register_recipes(register: Register) -> None:
    register("door-twice", "doorbench_parts:Twice")


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    register("door-looking", "doorbench_parts:Looking")


@hookimpl
def pruningbench_register_metrics(register: Register) -> None:
    register("door-brightness", "doorbench_parts:Brightness")


@hookimpl
def pruningbench_register_attribution_methods(register: Register) -> None:
    register("door-power", "doorbench_parts:Power")


@hookimpl
def pruningbench_register_discovery_methods(register: Register) -> None:
    register("door-corner", "doorbench_parts:Corner")


@hookimpl
def pruningbench_register_suites(register: RegisterFile) -> None:
    register("door-suite", Path(__file__).parent / "door-suite.yaml")


@hookimpl
def pruningbench_register_executors(register: RegisterFunction) -> None:
    register("door-processes", "doorbench_reports:Processes")


@hookimpl
def pruningbench_register_observers(register: RegisterFunction) -> None:
    register("door-counter", "doorbench_reports:Counter")


@hookimpl
def pruningbench_register_exhibits(register: RegisterFunction) -> None:
    register("door-bars", "doorbench_reports:bars")


@hookimpl
def pruningbench_register_figures(register: RegisterFunction) -> None:
    register("door-summary", "doorbench_reports:summary")


@hookimpl
def pruningbench_register_columns(register: RegisterFunction) -> None:
    register("door-tasks", "doorbench_reports:count_tasks")


@hookimpl
def pruningbench_register_statements(register: RegisterFunction) -> None:
    register("door-claim", "doorbench_reports:claim")


def _log(hook: str, **values: Any) -> None:
    path = os.environ.get("DOOR_LOG")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"hook": hook, **values}) + "\n")
    if os.environ.get("DOOR_FAILS") == hook:
        raise RuntimeError("the observer is tired")


@hookimpl
def pruningbench_run_started(run: RunInfo) -> None:
    _log("run_started", suite=run.suite, cells=run.cells, before=run.cells_before, task_runs=run.task_runs)


@hookimpl
def pruningbench_cell_started(cell: CellInfo) -> None:
    _log("cell_started", cell=cell.key, label=cell.label)


@hookimpl
def pruningbench_task_done(cell: CellInfo, task: str, records: Sequence[Mapping[str, Any]]) -> None:
    _log("task_done", cell=cell.key, task=task, metrics=[record["metric"] for record in records])


@hookimpl
def pruningbench_cell_done(cell: CellInfo, ok: bool) -> None:
    _log("cell_done", cell=cell.key, ok=ok)


@hookimpl
def pruningbench_run_done(run: RunInfo, ok: bool) -> None:
    _log("run_done", suite=run.suite, ok=ok)


@hookimpl
def pruningbench_note(message: str) -> None:
    _log("note", message=message)


@hookimpl
def pruningbench_warning(message: str) -> None:
    _log("warning", message=message)
