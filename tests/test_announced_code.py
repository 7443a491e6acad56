"""Code that a suite names outside any plugin is announced before it is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.toysuite import TOY_SUITE, Command

OWN = """
import sys
print("own code is running", file=sys.stderr, flush=True)
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
"""
SUITE = TOY_SUITE.replace(
    "[toy-net]", "[{use: python, network: own.py:build, mean: [0.5], std: [0.5], size: 6}]"
).replace(", {use: finetune, epochs: 1}", "")


@pytest.fixture()
def own(tmp_path: Path, suite_file: Callable[..., Path]) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return suite_file(SUITE + "data: toy-data\n")


@pytest.mark.parametrize("command", [["plan"], ["plan", "--json"], ["run", "--progress", "none"]])
def test_own_code_is_announced_before_it_runs(command: list[str], own: Path, pruningbench: Command) -> None:
    done = pruningbench(command[0], own, *command[1:], check=0)
    lines = done.stderr.splitlines()
    assert lines[0] == "runs own.py:build (model python(own.py:build,mean=[0.5],std=[0.5],size=6))"
    assert "own code is running" in lines[1:] and lines.count(lines[0]) == 1
    if "--json" in command:
        assert json.loads(done.stdout)["runs"] == [lines[0].removeprefix("runs ")]


def test_nothing_is_announced_or_run_when_nothing_will(
    own: Path, pruningbench: Command, suite_file: Callable[..., Path]
) -> None:
    pruningbench("run", own, "--progress", "none", check=0)
    assert pruningbench("run", own, "--progress", "none", check=0).stderr == ""
    assert "runs" not in pruningbench("plan", suite_file(), "--out", "new", check=0).stderr
    assert pruningbench("leaderboard", "runs/toy", check=0).stderr == ""
