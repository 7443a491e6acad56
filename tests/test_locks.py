"""Locks between processes: one makes what all need, and a lock ends with its holder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pruningbench.store import locks
from pruningbench.store.locks import only_process

HOLD = """
import sys, time, os
from pathlib import Path
from pruningbench.store.locks import only_process
with only_process(Path(sys.argv[1]), lambda: None):
    if len(sys.argv) > 3 and os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
MAKE = """
import sys, time
from pathlib import Path
import torch
from pruningbench.store.cache import Cache
def make():
    with Path(sys.argv[2]).open("a") as file:
        file.write("made\\n")
    time.sleep(2)
    return {"a": torch.arange(3)}
print("ready", flush=True)
sys.stdin.readline()
assert Cache(Path(sys.argv[1])).tensors("scores", {"of": 1}, make)["a"].tolist() == [0, 1, 2]
"""


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_a_lock_is_for_one_process_and_its_file_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "NOTED_EVERY", 0.1)
    file = tmp_path / "new" / ".lock"
    holder = started(HOLD, file, 1.0)
    notes = []
    begun = time.monotonic()
    with only_process(file, lambda: notes.append(1)):
        assert time.monotonic() - begun > 0.3, "it has waited"
        assert file.exists()
    assert notes
    assert not file.exists()
    holder.wait()


@pytest.mark.parametrize("extra", [(), ("fork",)], ids=["alone", "with a child that stays"])
def test_a_lock_ends_with_its_holder(extra: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    holder = started(HOLD, file, 60, *extra)
    holder.kill()
    holder.wait()
    assert file.exists(), "the file stays, the lock does not"
    begun = time.monotonic()
    with only_process(file, lambda: None):
        assert time.monotonic() - begun < 5
    assert not file.exists()


def test_what_several_processes_need_is_made_once(tmp_path: Path) -> None:
    processes = [started(MAKE, tmp_path / "cache", tmp_path / "log") for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.wait()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"
    assert len([f for f in (tmp_path / "cache").rglob("*") if f.is_file()]) == 1, "no lock is left behind"


def test_without_a_folder_to_write_there_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with only_process(tmp_path / "file" / ".lock", lambda: None):
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]
