"""Run folders on shared file systems: a driver on another machine is told, also where the system's locks do not work."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.objectstore import eventually
from kit.runs import run
from kit.toysuite import TOY_SUITE

from pruningbench.errors import RunFolderError
from pruningbench.hookspecs import hookimpl
from pruningbench.plugins import Registry
from pruningbench.store import folderlock
from pruningbench.store.lease import LEASE, Holder, LostLeaseError, parse_holder
from pruningbench.store.runfolder import RunFolder

ELSEWHERE = """
import sys, time, socket
from pruningbench.store import folderlock
socket.gethostname = lambda: "node7"
if sys.argv[2] != "here":
    folderlock.machine = lambda: "another kernel"
    folderlock._flock = lambda folder: None  # its locks are its own
folderlock.EVERY = 0.2
from pruningbench.store.runfolder import RunFolder
folder = RunFolder(sys.argv[1])
folder.lock()
print("locked", flush=True)
sys.stdin.readline()
folder.unlock()
print("unlocked", flush=True)
"""


class Elsewhere:
    """A driver in another process, as if on another machine with locks of its own."""

    def __init__(self, folder: Path, where: str = "elsewhere") -> None:
        self.process = subprocess.Popen([sys.executable, "-c", ELSEWHERE, str(folder), where], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "locked\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.communicate("\n", timeout=60)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    driver = Elsewhere(tmp_path)
    yield driver
    driver.kill()


def test_a_driver_on_another_machine_is_told_of(elsewhere: Elsewhere, tmp_path: Path) -> None:
    said: list[str] = []
    begun = time.monotonic()
    with pytest.raises(
        RunFolderError, match=rf"node7 \(process {elsewhere.process.pid}, since 20\d\d-.*sign of life 20"
    ):
        RunFolder(tmp_path).lock(said.append)
    assert time.monotonic() - begun < 5
    assert len(said) == 1
    assert "waiting up to" in said[0]
    assert "node7" in said[0]
    assert RunFolder(tmp_path).locked(), "merge and submit refuse it, too"
    before = (tmp_path / LEASE).read_bytes()
    assert eventually(lambda: (tmp_path / LEASE).read_bytes() not in (before, b"")), "the other one goes on"


def test_a_run_is_refused_in_one_line(elsewhere: Elsewhere, toy_registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="node7"):
        run(TOY_SUITE, toy_registry, tmp_path)
    assert not (tmp_path / "results.jsonl").exists()
    elsewhere.end()
    assert run(TOY_SUITE, toy_registry, tmp_path).computed == 10


def test_a_machine_that_was_lost_is_succeeded(elsewhere: Elsewhere, tmp_path: Path) -> None:
    elsewhere.kill()
    said: list[str] = []
    folder = RunFolder(tmp_path)
    folder.lock(said.append)
    assert [word in said[-1] for word in ("node7", "no sign of life since 20", "taking over")] == [True] * 3
    folder.check_lock()
    folder.unlock()
    assert not (tmp_path / LEASE).exists()
    RunFolder(tmp_path).lock(pytest.fail)  # nothing to wait for


def test_on_one_machine_the_lock_decides_at_once(tmp_path: Path) -> None:
    here = Elsewhere(tmp_path, "here")
    with pytest.raises(RunFolderError, match=r"another process on node7 \(process"):
        RunFolder(tmp_path).lock(pytest.fail)
    here.kill()
    begun = time.monotonic()
    folder = RunFolder(tmp_path)
    assert (tmp_path / LEASE).exists()
    assert not folder.locked()
    folder.lock(pytest.fail)
    assert time.monotonic() - begun < 0.5
    folder.unlock()


def test_where_the_system_refuses_locks_a_second_driver_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int, _flags: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(folderlock.fcntl, "flock", refuse)
    monkeypatch.setattr(folderlock, "EVERY", 0.2)
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.lock()
    assert second.locked()
    with pytest.raises(RunFolderError, match=f"process {os.getpid()}"):
        second.lock()
    first.unlock()
    assert not second.locked()
    second.lock(pytest.fail)
    second.unlock()


def test_who_was_taken_over_stops_and_writes_nothing_more(
    toy_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folderlock, "EVERY", 0.05)
    other = Holder("another", "another kernel", "node7", 1, time.time(), time.time(), 10.0)
    lines: list[int] = []

    class TakesOver:
        @hookimpl
        def pruningbench_task_done(self) -> None:
            lines.append(len((tmp_path / "run" / "results.jsonl").read_text().splitlines()))
            if len(lines) == 2:
                (tmp_path / "run" / LEASE).write_text(json.dumps(vars(other)))
                time.sleep(0.5)

    with toy_registry.door.admitted("test", TakesOver()), pytest.raises(LostLeaseError, match="node7.*has taken over"):
        run(TOY_SUITE, toy_registry, tmp_path / "run")
    assert len((tmp_path / "run" / "results.jsonl").read_text().splitlines()) == lines[1]
    assert parse_holder((tmp_path / "run" / LEASE).read_bytes()) == other, "the other one keeps its lease"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"owner": 1}', b"\xff\x00", b"9" * 5000])
def test_what_is_no_lease_is_not_read_as_one(content: bytes) -> None:
    assert parse_holder(content) is None


@pytest.mark.parametrize("content", [b"", b'{"owner": 1}'])
def test_a_lease_that_cannot_be_read_is_replaced(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LEASE).write_bytes(content)
    folder = RunFolder(tmp_path)
    folder.lock(pytest.fail)
    assert parse_holder((tmp_path / LEASE).read_bytes()) is not None
    folder.unlock()


def test_a_lease_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LEASE).symlink_to(tmp_path / "precious")
    with pytest.raises(RunFolderError, match="only plain files"):
        RunFolder(tmp_path / "run").check("d", {})
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_copy_of_the_process_does_not_end_its_lock(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.lock()
    child = os.fork()
    if child == 0:
        folder.unlock()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / LEASE).exists()
    assert folder.locked()
    folder.unlock()
