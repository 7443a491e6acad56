"""Trainings of recipes in a process of their own, killed with SIGKILL in the midst of an epoch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from kit.commands import run_python
from kit.toysuite import TOY, TOY_SUITE

SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from kit.runs import run
from pruningbench.plugins import load_registry
from pruningbench.pruning.stepping import Stepper
from pruningbench.training import checkpoints

torch.set_num_threads(1)
checkpoints.PAUSE, checkpoints.SHARE = 0.0, 1e9
suite, out, kill_at = Path(sys.argv[1]).read_text(), Path(sys.argv[2]), int(sys.argv[3])
step, steps = Stepper.__call__, []

def counting(self, *args):
    if len(steps) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    steps.append(1)
    return step(self, *args)

Stepper.__call__ = counting
run(suite, load_registry(), out)
print(len(steps))
"""


def train(
    tmp_path: Path, name: str, recipe: str, kill_at: int = -1, pruner: str = "toy-pruner"
) -> subprocess.CompletedProcess[str]:
    text = TOY_SUITE.replace("[none, {use: finetune, epochs: 1}]", f"[{recipe}]").replace("[0, 0.5, 0.9]", "[0.75]")
    suite = tmp_path / "suite.yaml"
    suite.write_text(text.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", f"[{pruner}]"))
    path = os.pathsep.join([str(TOY), str(TOY.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PRUNINGBENCH_CACHE": str(tmp_path / f"cache {name}")}
    return run_python(SCRIPT, str(suite), str(tmp_path / name), str(kill_at), cwd=tmp_path, env=environment)


def networks(tmp_path: Path, name: str) -> list[str]:
    lines = (tmp_path / name / "results.jsonl").read_text().splitlines()
    return [json.loads(line)["made_of"]["network"] for line in lines]


@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        (
            "{use: finetune, epochs: 3, batch_size: 8, checkpoint_minutes: 1.0e-9, optimizer: adamw, lr: 0.003, ema: 0.9}",
            0.5,
        ),
        ("{use: iterative, rate: 0.5, rewind: init, epochs: 3, batch_size: 8, checkpoint_minutes: 1.0e-9}", 0.6),
        ("{use: iterative, rate: 0.5, rewind: early, epochs: 3, batch_size: 8, checkpoint_minutes: 1.0e-9}", 0.35),
        pytest.param(
            "{use: iterative, rate: 0.5, dense_first: true, epochs: 3, batch_size: 8, checkpoint_minutes: 1.0e-9}",
            0.2,  # in the dense training
            marks=pytest.mark.slow,
        ),
    ],
    ids=["finetune", "imp", "imp from early weights", "lrr"],
)
def test_kill_9_in_an_epoch_loses_no_stored_step_and_no_bit(tmp_path: Path, recipe: str, share: float) -> None:
    whole = train(tmp_path, "whole", recipe)
    assert whole.returncode == 0, whole.stderr
    steps = int(whole.stdout.splitlines()[-1])
    done = int(share * steps) + 1
    killed = train(tmp_path, "killed", recipe, done)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = train(tmp_path, "killed", recipe)
    assert again.returncode == 0, again.stderr
    assert int(again.stdout.splitlines()[-1]) == steps - done  # a state was stored after every step: none is repeated
    assert networks(tmp_path, "killed") == networks(tmp_path, "whole")
    assert not list((tmp_path / "cache killed").glob("trainings/*/*"))


def test_kill_9_while_masks_move_loses_no_stored_step_and_no_bit(tmp_path: Path) -> None:
    recipe = "{use: finetune, epochs: 3, batch_size: 8, checkpoint_minutes: 1.0e-9}"
    pruner = "{use: movement, interval: 2}"
    whole = train(tmp_path, "whole", recipe, pruner=pruner)
    assert whole.returncode == 0, whole.stderr
    steps = int(whole.stdout.splitlines()[-1])
    done = steps - 3
    killed = train(tmp_path, "killed", recipe, done, pruner)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = train(tmp_path, "killed", recipe, pruner=pruner)
    assert again.returncode == 0, again.stderr
    assert int(again.stdout.splitlines()[-1]) == steps - done
    assert networks(tmp_path, "killed") == networks(tmp_path, "whole")
