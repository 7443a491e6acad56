"""The rehearsal of the tests of GPUs: what stands in for the device refuses what a GPU refuses, and they pass with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kit.commands import run_python
from kit.gpu import REHEARSAL, assert_found

TESTS = Path(__file__).parent
REFUSED = """
import sys, torch
sys.path.insert(0, {kit!r})
from kit.standin import prepare, standing_in
prepare()
with standing_in():
    there, here = torch.arange(6.0, device="cuda"), torch.arange(6.0)
    refused = {{
        "sum": lambda: there + here,
        "product": lambda: there @ here,
        "stack": lambda: torch.stack([there[0], torch.tensor(1.0)]),
        "index of the CPU": lambda: here[there.long()],
        "assigned": lambda: there.__setitem__(torch.tensor([0, 1]), here[:2]),
        "masked": lambda: there.masked_fill(here > 1, 0),
        "generator": lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
        "numpy": lambda: there.numpy(),
        "pinned": lambda: there.pin_memory(),
    }}
    for name, work in refused.items():
        try:
            work()
        except (RuntimeError, TypeError):
            continue
        print("not refused:", name)
    for draw in (torch.Generator("cuda"), torch.Generator("cuda").manual_seed(1)):
        assert torch.empty(3, device="cuda").normal_(generator=draw).device == torch.rand(3, device="cuda", generator=draw).device
    weight = torch.nn.Linear(6, 2).to("cuda").weight
    (weight @ there).sum().backward()
    assert weight.device == weight.grad.device == torch.device("cuda", 0) == (there * 2 + torch.tensor(1)).device
    assert there[torch.tensor([0, 5])].tolist() == [0, 5] and weight.grad.cpu().numpy()[1, 5] == 5
print("done")
"""


def test_the_stand_in_refuses_what_a_gpu_refuses() -> None:
    done = run_python(REFUSED.format(kit=str(TESTS)), cwd=TESTS, env=dict(os.environ))
    assert done.stdout.split("\n")[0] == "done", done.stdout + done.stderr


def test_without_a_gpu_its_tests_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AssertionError, match="torch sees none"):
        assert_found()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_test_of_one_gpu_passes_a_rehearsal() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *map(str, TESTS.glob("test_gpu_*.py"))],
        env={**os.environ, REHEARSAL: "1"}, cwd=TESTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
