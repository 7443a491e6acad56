"""A plugin adds one of everything; observers are told, contained and named; every hook is documented and used."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.commands import MAIN, run_python

from pruningbench import hookspecs
from pruningbench.contract.component import KINDS
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import EXTENSIONS, load_registry
from pruningbench.plugins.loading import HOOKS

DOOR = Path(__file__).parent / "door"
DOCS = Path(__file__).parents[1] / "docs" / "plugins.md"
ALL_HOOKS = sorted(name for name, value in vars(hookspecs).items() if name.startswith("pruningbench_"))
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def door(tmp_path: Path) -> Call:
    """Run the command line in a process that finds the plugin."""

    def call(*arguments: str, check: int = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [str(DOOR), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": path, "DOOR_LOG": str(tmp_path / "log"), "COLUMNS": "160", **extra}
        done = run_python(MAIN, *arguments, cwd=tmp_path, env=environment)
        assert done.returncode == check, f"{done.stdout}\n{done.stderr}"
        return done

    return call


def told(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def test_a_plugin_adds_one_of_everything(door: Call, tmp_path: Path) -> None:
    rows = json.loads(door("list", "--json").stdout)
    own = {row["kind"] for row in rows if row["plugin"] == "doorbench"}
    assert own == {*KINDS, *EXTENSIONS}
    watched = ("--observer", "door-counter")
    serial = door("run", "door-suite", "--device", "cpu", "--progress", "plain", "--out", "serial", *watched)
    assert (tmp_path / "serial" / "counted.txt").read_text("utf-8") == "9"
    assert "The door was used " in serial.stdout
    names = [path.name for path in (tmp_path / "serial" / "figures").glob("*.png")]
    assert "door-summary.png" in names
    assert sum(name.startswith("bars-door-looking-door-net") for name in names) == 3
    results = load_results(tmp_path / "serial")
    assert set(results["status"]) == {"ok"}
    assert set(results["recipe"]) == {"none", "door-twice"}
    assert set(results[results["task"] == "interpretability"]["variant"]) == {"saliency", "door-power(power=2)"}
    assert set(results[results["metric"] == "corloc"]["value"]) == {1.0}
    assert "door-brightness" in set(results[results["task"] == "door-looking"]["metric"])

    table = door("leaderboard", "serial", "--columns", "door-tasks,achieved", "--format", "csv").stdout.splitlines()
    assert table[0].endswith(",door-tasks,achieved")
    assert {line.rsplit(",", 2)[1] for line in table[1:]} == {"3"}
    assert {line.rsplit(",", 2)[2] for line in table[1:]} == {"0%", "50%"}

    hooks = [line["hook"] for line in told(tmp_path)]
    assert hooks.count("cell_started") == hooks.count("cell_done") == 3
    assert (hooks[0], hooks[-1]) == ("run_started", "run_done")
    assert {line["task"] for line in told(tmp_path) if line["hook"] == "task_done"} == {
        "door-looking", "interpretability", "discovery"
    }  # fmt: skip
    assert [line["message"] for line in told(tmp_path) if line["hook"] == "note"].count("half way") == 1
    assert {f"pruningbench_{hook}" for hook in hooks} == {hook for hook in ALL_HOOKS if "_register_" not in hook}

    door("run", "door-suite", "--device", "cpu", "--executor", "door-processes", "--workers", "2", "--out", "several")
    columns = ["cell", "task", "variant", "metric", "value", "ci_low", "ci_high", "n", "data_fingerprint"]
    key = ["cell", "task", "variant", "metric"]
    several = load_results(tmp_path / "several")[columns].sort_values(key).reset_index(drop=True)
    assert several.equals(results[columns].sort_values(key).reset_index(drop=True))


@pytest.mark.parametrize("hook", ["run_started", "task_done", "cell_done", "run_done"])
def test_a_failing_observer_is_named_once_and_harms_nothing(door: Call, tmp_path: Path, hook: str) -> None:
    done = door("run", "door-suite", "--only", "task=door-looking", "--device", "cpu", "--progress", "plain",
                "--out", "run", DOOR_FAILS=hook)  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "observer" in line]
    assert said == [
        f"warning: observer 'doorbench/everything' failed and is not called again in this run: "
        f"pruningbench_{hook}: RuntimeError: the observer is tired"
    ]
    assert [line["hook"] for line in told(tmp_path)].count(hook) == 1
    assert len(load_results(tmp_path / "run")) == 6


@pytest.mark.parametrize("hook", ALL_HOOKS)
def test_every_hook_is_documented_and_used_by_a_built_in(hook: str) -> None:
    documentation = inspect.getdoc(getattr(hookspecs, hook)) or ""
    assert documentation.splitlines()[0].endswith(".")
    assert f"`{hook}`" in DOCS.read_text("utf-8")
    registry = load_registry()
    implemented = {
        name for plugin in registry.plugins if plugin.distribution == "pruningbench"
        for name in registry.door.implemented(f"{plugin.distribution}/{plugin.name}")
    }  # fmt: skip
    if hook not in implemented:  # the command line's progress comes through the door when a run begins
        progress = importlib.import_module("pruningbench.cli.progress")
        implemented = {name for name in vars(progress.PlainProgress) if name.startswith("pruningbench_")}
    assert hook in implemented


def test_each_kind_has_its_hook() -> None:
    registering = {hook for hook in ALL_HOOKS if "_register_" in hook}
    assert set(HOOKS.values()) == registering
    assert set(HOOKS) == {*KINDS, *EXTENSIONS}


def test_built_ins_state_the_contract() -> None:
    for plugin in load_registry().plugins:
        if plugin.distribution == "pruningbench":
            module = load_registry().door.manager.get_plugin(f"pruningbench/{plugin.name}")
            assert module is not None
            assert module.pruningbench_contract == hookspecs.CONTRACT_VERSION


def test_every_name_of_the_contract_is_documented() -> None:
    tree = ast.parse((Path(hookspecs.__file__).parent / "contract" / "__init__.py").read_text("utf-8"))
    (names,) = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    listed = ast.literal_eval(names)
    text = DOCS.read_text("utf-8")
    assert [name for name in listed if f"`{name}`" not in text] == []
