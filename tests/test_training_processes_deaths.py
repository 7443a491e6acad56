"""Processes of a training that die or fail: one line says so, nothing hangs or stays behind, and no bit is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.parallel import Drawing, Ending, left_behind, masks_of, net, state
from kit.runs import run
from kit.toysuite import TOY, TOY_SUITE
from kit.training import quick, toy_samples
from torch import nn

from pruningbench.base.identity import tensors_digest
from pruningbench.plugins import Registry
from pruningbench.pruning.stepping import Stepper
from pruningbench.store.cache import Cache
from pruningbench.training import checkpoints, team
from pruningbench.training.checkpoints import Checkpoints
from pruningbench.training.errors import TrainingError
from pruningbench.training.fit import fit
from pruningbench.training.settings import FitSettings

CONTINUE = "run again to continue from what is stored"


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    assert left_behind() == [] and torch.get_num_threads() == threads


def train(
    ending: Ending, settings: FitSettings, kept: Checkpoints | None = None, samples: int = 40
) -> tuple[str, list[float], list[str]]:
    model, said = net("batch", Drawing(), ending), list[str]()
    losses = fit(
        model, toy_samples(samples), settings, seed=3, masks=masks_of(model), checkpoints=kept, report=said.append
    )
    return tensors_digest(state(model)), losses, said


@pytest.mark.parametrize(
    "between", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["within a step", "between two steps"]
)
def test_a_killed_process_is_named_and_the_training_continues_with_the_same_bits(
    between: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    settings = quick(
        processes=2, optimizer="adamw", lr=0.003, ema=0.9, mixup=0.3, accumulate=2, checkpoint_minutes=1e-9
    )
    never = Ending(0, "killed")
    whole, losses, _ = train(never, settings)
    with monkeypatch.context() as patched:
        if between:
            step = Stepper.__call__

            def killing(self: Stepper, *args: Any) -> Any:
                if self.step == 4:
                    (child,) = multiprocessing.active_children()
                    os.kill(child.pid or 0, signal.SIGKILL)
                return step(self, *args)

            patched.setattr(Stepper, "__call__", killing)
        with pytest.raises(TrainingError) as caught:  # two passes a step, three steps an epoch: in the second epoch
            train(never if between else Ending(9, "killed"), settings, Checkpoints(Cache(), {"training": 1}))
    assert str(caught.value) == "process 2 of 2 of this training was killed by SIGKILL; " + CONTINUE
    assert left_behind() == []
    torch.manual_seed(1)
    again, their_losses, said = train(never, settings, Checkpoints(Cache(), {"training": 1}))
    assert (again, their_losses) == (whole, losses)
    assert said[0] == "epoch 1/3 and 1 steps of the next were done before"


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("raises", TrainingError, "process 3 of 3 of this training failed: ValueError: oops"),
        ("exits", TrainingError, "of this training exited without a message (exit status 3); run again to continue"),
        ("memory", torch.OutOfMemoryError, "in process 3 of 3: OutOfMemoryError: CUDA out of memory. Tried to"),
    ],
)
def test_a_process_that_fails_ends_the_training_with_its_reason(how: str, error: type[Exception], words: str) -> None:
    """The others then lose contact, which is not the reason."""
    with pytest.raises(error) as caught:
        train(OnlyTheLast(4, how), quick(processes=3))
    assert words in str(caught.value) and "\n" not in str(caught.value)


class OnlyTheLast(Ending):
    """Fails in the third process only."""

    def end(self) -> None:
        if multiprocessing.current_process().name == "training 3/3":
            super().end()


def test_an_interrupt_ends_all_processes() -> None:
    def report(_text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(net(), toy_samples(16), quick(processes=2), seed=0, report=report)
    assert left_behind() == []


def refusal(model: Any, **fields: Any) -> str:
    with pytest.raises(TrainingError) as caught:
        fit(model, toy_samples(16), quick(epochs=1, processes=2, **fields), seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_cannot_be_sent_is_refused_in_one_line() -> None:
    model = net()
    model.network.register_forward_pre_hook(lambda _module, _inputs: None)
    text = refusal(model)
    assert text.startswith("processes: this Net cannot be sent to another process (")
    assert text.endswith("; define its classes at the top of a module, or set processes: 1")


def test_a_network_from_a_file_is_found_by_the_other_processes(tmp_path: Path) -> None:
    """Its module is not on Python's path: the file is loaded again."""
    from kit.models import load

    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\nclass Own(nn.Sequential):\n    pass\n"
        "def make():\n    return Own(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 2))\n"
    )
    fields = {"network": f"{path}:make", "size": 6, "mean": [0.5], "std": [0.25], "classes": ["left", "right"]}
    one, two = (load("python", **fields) for _ in range(2))
    fit(one, toy_samples(16), quick(epochs=1), seed=0)
    fit(two, toy_samples(16), quick(epochs=1, processes=2), seed=0)
    torch.testing.assert_close(two.network[0].weight, one.network[0].weight, atol=1e-6, rtol=0)


class Unreadable(nn.Identity):
    """Cannot be made again from what was sent."""

    def __setstate__(self, _state: Any) -> None:
        os._exit(7)


def test_a_process_that_cannot_begin_is_reported() -> None:
    assert refusal(net("batch", Unreadable())).startswith(
        "process 2 of 2 of this training exited without a message (exit status 7) before it could begin"
    )


def test_a_process_in_a_group_of_its_own_user_is_left_alone(tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert "already in a group of torch.distributed; set processes: 1" in refusal(net())
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    found = team.devices_of(torch.device("cuda"), 3)
    assert [str(device) for device in found] == ["cuda:3", "cuda:0", "cuda:1"]
    assert team.devices_of(torch.device("cuda:1"), 2) == [torch.device("cuda:1"), torch.device("cuda:2")]
    with pytest.raises(TrainingError, match="processes is 5, each on its own GPU, but this process sees 4 GPUs"):
        team.devices_of(torch.device("cuda"), 5)
    with pytest.raises(TrainingError, match="a training on mps has one process; set processes: 1"):
        team.devices_of(torch.device("mps"), 2)


def test_a_cell_whose_process_is_killed_fails_and_is_tried_again(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on; when the cell is tried again, no step is repeated and no bit is lost."""
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    recipe = "{use: finetune, epochs: 2, batch_size: 8, processes: 2, checkpoint_minutes: 1.0e-9, ema: 0.9}"
    text = TOY_SUITE.replace("[none, {use: finetune, epochs: 1}]", f"[{recipe}]").replace("[0, 0.5, 0.9]", "[0.75]")
    text = text.replace("[toy-pruner, {use: toy-pruner, allocation: uniform}]", "[toy-pruner]")
    step, steps = Stepper.__call__, list[int]()
    kill_at = -1

    def counting(self: Stepper, *args: Any) -> Any:
        if len(steps) == kill_at:
            (child,) = multiprocessing.active_children()
            os.kill(child.pid or 0, signal.SIGKILL)
        steps.append(1)
        return step(self, *args)

    monkeypatch.setattr(Stepper, "__call__", counting)
    run(text, toy_registry, tmp_path / "whole")
    (whole,) = {record["made_of"]["network"] for record in records(tmp_path / "whole")}
    all_steps, kill_at = len(steps), 2 * len(steps) - 3  # in the last epoch
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "fresh"))
    run(text, toy_registry, tmp_path / "killed")
    (failed,) = [record for record in records(tmp_path / "killed") if record["status"] != "ok"]
    assert failed["status"] == "failed"
    last = failed["error"].splitlines()[-1]
    assert last.endswith("TrainingError: process 2 of 2 of this training was killed by SIGKILL; " + CONTINUE)
    kill_at = -1
    run(text, toy_registry, tmp_path / "killed", retry_failed=True)
    assert len(steps) == 2 * all_steps + 1  # only the step in which it died is taken again
    (again,) = {record["made_of"]["network"] for record in records(tmp_path / "killed") if record["status"] == "ok"}
    assert again == whole


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


SCRIPT = """
import multiprocessing, os, signal
from kit.parallel import net
from kit.training import quick, toy_samples
from pruningbench.training.fit import fit

def report(text):
    (child,) = multiprocessing.active_children()
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

fit(net(), toy_samples(32), quick(processes=2), seed=0, report=report)
"""


def test_no_process_outlives_the_first() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOY.parent), os.environ.get("PYTHONPATH", "")])}
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    other = int(killed.stdout)
    for _ in range(300):
        if not alive(other):
            return
        time.sleep(0.1)
    pytest.fail(f"process {other} is still there")


def alive(pid: int) -> bool:
    """Whether a process that is no child of this one exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
